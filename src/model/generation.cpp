#include "kvlingua/model/generation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/model/decode_session.h"
#include "sampler.h"

namespace kvlingua {
namespace {

void check(const GenerationOptions& options, int64_t rows) {
  const auto refuse = [](const char* what, std::string got, std::string expected) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "generation",
                 .what = what,
                 .got = std::move(got),
                 .expected = std::move(expected)});
  };
  if (options.max_new_tokens < 0)
    refuse("max_new_tokens", cat(options.max_new_tokens), "0 or more");
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    refuse("temperature", cat(options.temperature), "0 or more");
  if (options.top_k < 0) refuse("top_k", cat(options.top_k), "0 (off) or more");
  if (!(options.top_p > 0 && options.top_p <= 1))
    refuse("top_p", cat(options.top_p), "above 0, at most 1");
  if (!options.row_seeds.empty() && static_cast<int64_t>(options.row_seeds.size()) != rows) {
    refuse("row_seeds", cat(options.row_seeds.size()), cat("one for each of ", rows, " rows"));
  }
}

struct Choice {
  std::vector<int64_t> ids;
  std::vector<float> logprobs;
};

// The next id of each row and its log-probability. logits [rows, vocab].
Choice choose(const at::Tensor& logits, const GenerationOptions& options,
              std::vector<Random*>& random) {
  Choice choice;
  at::Tensor ids;
  if (options.temperature == 0) {
    ids = logits.argmax(1);
  } else {
    const at::Tensor host = logits.to(at::kCPU).contiguous();
    ids = at::empty({host.size(0)}, at::kLong);
    const SamplingOptions sampling{options.temperature, options.top_k, options.top_p};
    for (int64_t r = 0; r < host.size(0); ++r) {
      const std::span<const float> row(host.const_data_ptr<float>() + r * host.size(1),
                                       static_cast<size_t>(host.size(1)));
      ids.data_ptr<int64_t>()[r] = sample(row, sampling, *random[static_cast<size_t>(r)]);
    }
    ids = ids.to(logits.device());
  }
  const at::Tensor logprobs =
      (logits.gather(1, ids.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)).to(at::kCPU);
  ids = ids.to(at::kCPU);
  choice.ids.assign(ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.size(0));
  choice.logprobs.assign(logprobs.const_data_ptr<float>(),
                         logprobs.const_data_ptr<float>() + ids.size(0));
  return choice;
}

// Dropping finished rows copies the cache of the others. Where that is little beside the weights
// that every step reads, an eighth of the rows pays for it; else half.
bool worth_dropping(const CausalLM& model, const DecodeSession& session, int64_t alive) {
  const int64_t cache =
      session.rows() * session.capacity() *
      model.kv_shape().bytes_per_token(static_cast<int64_t>(at::elementSize(model.dtype())));
  const int64_t share = cache < model.weight_bytes() ? 8 : 2;
  return share * (session.rows() - alive) >= session.rows();
}

}  // namespace

std::vector<GeneratedRow> generate(const CausalLM& model, const TokenBatch& prompt,
                                   const KvCache* past, const GenerationOptions& options) {
  const int64_t rows = prompt.ids_BT.defined() ? prompt.ids_BT.size(0) : 0;
  check(options, rows);
  const int64_t room = (prompt.ids_BT.defined() ? prompt.ids_BT.size(1) : 0) +
                       std::min<int64_t>(options.max_new_tokens, 512);
  DecodeSession session = past != nullptr && !past->empty() ? DecodeSession(model, *past, room)
                                                            : DecodeSession(model, rows, room);
  const at::Tensor logits = session.append(prompt);
  return generate_from(model, session, logits, options);
}

std::vector<GeneratedRow> generate_from(const CausalLM& model, DecodeSession& session,
                                        const at::Tensor& first_logits,
                                        const GenerationOptions& options) {
  const at::NoGradGuard no_grad;
  const int64_t rows = session.rows();
  check(options, rows);
  std::vector<GeneratedRow> result(static_cast<size_t>(rows));
  at::Tensor logits = first_logits;
  std::vector<Random> streams;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = static_cast<size_t>(r);
    streams.emplace_back(mix(options.seed, options.row_seeds.empty() ? static_cast<uint64_t>(r)
                                                                     : options.row_seeds[row]));
  }
  // `in_session[i]` is the row that the session's row i continues; finished ones stay until enough
  // of them are (worth_dropping).
  std::vector<int64_t> in_session(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) in_session[static_cast<size_t>(r)] = r;
  std::vector<bool> done(static_cast<size_t>(rows), options.max_new_tokens == 0);
  while (!std::all_of(done.begin(), done.end(), [](bool d) { return d; })) {
    std::vector<Random*> random;
    for (const int64_t row : in_session) random.push_back(&streams[static_cast<size_t>(row)]);
    const Choice choice = choose(logits, options, random);
    std::vector<int64_t> alive;
    for (size_t i = 0; i < in_session.size(); ++i) {
      const auto row = static_cast<size_t>(in_session[i]);
      if (done[row]) continue;
      GeneratedRow& out = result[row];
      out.logprobs.push_back(choice.logprobs[i]);
      if (std::ranges::find(options.stop_ids, choice.ids[i]) != options.stop_ids.end()) {
        out.stopped = done[row] = true;
        continue;
      }
      out.ids.push_back(choice.ids[i]);
      const bool go_on = !options.on_token || options.on_token(in_session[i], choice.ids[i]);
      done[row] = !go_on || static_cast<int64_t>(out.ids.size()) >= options.max_new_tokens ||
                  session.next_positions()[i] >= model.config().max_position_embeddings;
      if (!done[row]) alive.push_back(static_cast<int64_t>(i));
    }
    if (alive.empty()) break;
    std::vector<int64_t> next = choice.ids;
    // A finished row at the last position could not take another step.
    const bool must_drop = std::ranges::any_of(session.next_positions(), [&](int64_t p) {
      return p >= model.config().max_position_embeddings;
    });
    if (worth_dropping(model, session, static_cast<int64_t>(alive.size())) || must_drop) {
      session.keep_rows(alive);
      std::vector<int64_t> rows_left, ids_left;
      for (const int64_t i : alive) {
        rows_left.push_back(in_session[static_cast<size_t>(i)]);
        ids_left.push_back(choice.ids[static_cast<size_t>(i)]);
      }
      in_session = std::move(rows_left);
      next = std::move(ids_left);
    }
    logits = session.step(at::tensor(next, at::kLong));
  }
  return result;
}

}  // namespace kvlingua
