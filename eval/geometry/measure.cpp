#include "eval/geometry/measure.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "eval/geometry/kept_lines.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/model/decode_session.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

Json to_json(const SideGeometry& side) {
  return {{"norm", side.norm},
          {"mean", side.mean},
          {"deviation", side.deviation},
          {"rank", side.rank},
          {"entropy", side.entropy}};
}

SideGeometry side_from(const nlohmann::json& json) {
  return {json.at("norm"), json.at("mean"), json.at("deviation"), json.at("rank"),
          json.at("entropy")};
}

bool possible(const SideGeometry& side, int64_t layers) {
  for (const auto* figures : {&side.norm, &side.mean, &side.deviation, &side.rank, &side.entropy}) {
    if (static_cast<int64_t>(figures->size()) != layers) return false;
    for (const double v : *figures)
      if (!(std::abs(v) < kLargestFigure)) return false;
  }
  return true;
}

Json to_json(const Measurement& m) {
  if (!m.ok()) return {{"id", m.id}, {"input_tokens", m.input_tokens}, {"failure", m.failure}};
  return {{"id", m.id},
          {"input_tokens", m.input_tokens},
          {"cache_tokens", m.cache_tokens},
          {"written", m.written},
          {"keys", to_json(m.geometry.keys)},
          {"values", to_json(m.geometry.values)}};
}

// A stored line of a model of so many layers. Throws Error (kCorrupt) on figures that no cache of
// it has: arrays of other lengths would be read past their end.
Measurement measurement_from(const nlohmann::json& json, const MeasureRequest& request,
                             int64_t layers, const std::string& where) {
  Measurement m;
  m.id = json.at("id");
  m.input_tokens = json.at("input_tokens");
  m.failure = json.value("failure", std::string());
  if (!m.ok()) return m;
  m.cache_tokens = json.at("cache_tokens");
  m.written = json.at("written").get<std::vector<int64_t>>();
  m.geometry = {side_from(json.at("keys")), side_from(json.at("values"))};
  if (m.input_tokens != static_cast<int64_t>(request.ids.size()) ||
      m.cache_tokens < m.input_tokens || !possible(m.geometry.keys, layers) ||
      !possible(m.geometry.values, layers))
    throw Error(
        {.code = ExitCode::kCorrupt,
         .where = cat(where, ", ", printable(m.id)),
         .what = "stored figures that no cache of this prompt has",
         .expected = cat(layers, " finite numbers a feature, ", request.ids.size(), " tokens read"),
         .remedy = "take the line out, or start over with --restart"});
  return m;
}

std::string fingerprint(const CausalLM& model, const std::vector<MeasureRequest>& requests,
                        const MeasureOptions& options) {
  Sha256 hash;
  hash.update(cat("geometry 1|", model.fingerprint(), "|", at::toString(model.dtype()), "|",
                  options.new_tokens, "|", options.batch_size, "|", options.salt));
  for (const int64_t id : options.stop_ids) hash.update(cat("|", id));
  for (const MeasureRequest& request : requests) {
    hash.update(cat("|", request.id, ":"));
    hash.update(request.ids.data(), request.ids.size() * sizeof(int64_t));
  }
  return hash.hex();
}

// Greedy continuation of all rows, the finished ones stepping on until the last is: how many new
// tokens each row wrote.
struct Written {
  std::vector<std::vector<int64_t>> ids;
  std::vector<bool> done;
};
Written continue_rows(DecodeSession& session, at::Tensor logits, const MeasureOptions& options) {
  const auto rows = static_cast<size_t>(session.rows());
  Written out{std::vector<std::vector<int64_t>>(rows), std::vector<bool>(rows, false)};
  for (int64_t step = 0; step < options.new_tokens; ++step) {
    const at::Tensor next = logits.argmax(1).to(at::kCPU);
    for (size_t r = 0; r < rows; ++r) {
      if (out.done[r]) continue;
      const int64_t id = next.const_data_ptr<int64_t>()[r];
      out.ids[r].push_back(id);
      out.done[r] = std::ranges::find(options.stop_ids, id) != options.stop_ids.end();
    }
    const bool all = std::ranges::all_of(out.done, [](bool d) { return d; });
    if (all || step + 1 == options.new_tokens) break;
    logits = session.step(next);
  }
  return out;
}

// Which columns of the session are a row's: its prompt, then its new tokens but the last.
at::Tensor columns_of(const std::vector<const MeasureRequest*>& rows, const Written& written,
                      int64_t columns) {
  const at::Tensor mask = at::zeros({static_cast<int64_t>(rows.size()), columns}, at::kBool);
  int64_t longest = 0;
  for (const MeasureRequest* row : rows)
    longest = std::max(longest, static_cast<int64_t>(row->ids.size()));
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto row = static_cast<int64_t>(r),
               read = static_cast<int64_t>(written.ids[r].size()) - 1;
    mask[row].narrow(0, 0, static_cast<int64_t>(rows[r]->ids.size())).fill_(true);
    if (read > 0) mask[row].narrow(0, longest, read).fill_(true);
  }
  return mask;
}

// Why a prompt cannot be measured; empty: it can.
std::string refusal(const CausalLM& model, const MeasureRequest& request, int64_t new_tokens) {
  if (request.ids.empty()) return "has no tokens";
  const int64_t room = model.config().max_position_embeddings;
  const int64_t wanted =
      static_cast<int64_t>(request.ids.size()) + std::max<int64_t>(new_tokens, 1) - 1;
  if (wanted > room)
    return cat(wanted, " tokens with what is written, more than the model's ", room, " positions");
  return {};
}

}  // namespace

std::vector<Measurement> measure_batch(const CausalLM& model,
                                       const std::vector<MeasureRequest>& requests,
                                       const MeasureOptions& options) {
  const at::NoGradGuard no_grad;
  std::vector<Measurement> out;
  std::vector<const MeasureRequest*> rows;
  std::vector<std::vector<int64_t>> ids;
  for (const MeasureRequest& request : requests) {
    out.push_back({.id = request.id,
                   .input_tokens = static_cast<int64_t>(request.ids.size()),
                   .failure = refusal(model, request, options.new_tokens)});
    if (!out.back().ok()) continue;
    rows.push_back(&request);
    ids.push_back(request.ids);
  }
  if (rows.empty()) return out;
  DecodeSession session(model, static_cast<int64_t>(rows.size()), options.new_tokens);
  const bool writes = options.new_tokens > 0;
  const at::Tensor logits =
      session.append(TokenBatch::from_rows(ids), writes ? LogitsAt::kLast : LogitsAt::kNone);
  Written written{std::vector<std::vector<int64_t>>(rows.size()), {}};
  if (writes) written = continue_rows(session, logits, options);
  const KvCache cache = session.cache();
  const at::Tensor mask = columns_of(rows, written, cache.tokens());
  const std::vector<CacheGeometry> geometry =
      geometry_of(KvCache(cache.keys(), cache.values(), cache.positions(), cache.rope(),
                          mask.to(cache.positions().device())));
  size_t row = 0;
  for (Measurement& m : out) {
    if (!m.ok()) continue;
    m.cache_tokens = mask[static_cast<int64_t>(row)].sum().item<int64_t>();
    m.written = written.ids[row];
    m.geometry = geometry[row++];
    if (!m.geometry.finite()) m.failure = "its cache holds numbers that are not finite";
  }
  return out;
}

MeasureResult measure(const CausalLM& model, const std::vector<MeasureRequest>& requests,
                      const MeasureOptions& options) {
  KeptLines kept(options.file, fingerprint(model, requests, options), options.resume);
  MeasureResult result;
  result.measurements.resize(requests.size());
  // By length, so that a batch wastes little on padding.
  std::vector<size_t> order(requests.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, {}, [&](size_t i) { return requests[i].ids.size(); });
  Progress progress(options.label, static_cast<int64_t>(requests.size()), "prompts");
  const auto step = static_cast<size_t>(std::max<int64_t>(1, options.batch_size));
  for (size_t begin = 0; begin < order.size(); begin += step) {
    const size_t end = std::min(order.size(), begin + step);
    std::vector<MeasureRequest> batch;
    bool known = true;
    for (size_t i = begin; i < end; ++i) {
      batch.push_back(requests[order[i]]);
      known = known && kept.find(batch.back().id) != nullptr;
    }
    if (known) {
      for (size_t i = begin; i < end; ++i) {
        const MeasureRequest& request = requests[order[i]];
        kept.read(request.id, [&](const nlohmann::json& line) {
          result.measurements[order[i]] =
              measurement_from(line, request, model.config().num_layers, options.file.string());
        });
      }
      result.resumed += static_cast<int64_t>(end - begin);
      progress.skip(static_cast<int64_t>(end - begin));
      continue;
    }
    if (stop_requested()) throw stopped_error(cat(options.label, ": finished prompts are kept"));
    const auto start = std::chrono::steady_clock::now();
    std::vector<Measurement> measured = measure_batch(model, batch, options);
    result.seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (size_t i = begin; i < end; ++i) {
      Measurement& m = measured[i - begin];
      kept.keep(to_json(m));
      result.positions += m.cache_tokens;
      result.measurements[order[i]] = std::move(m);
    }
    progress.advance(static_cast<int64_t>(end - begin));
  }
  return result;
}

}  // namespace kvlingua
