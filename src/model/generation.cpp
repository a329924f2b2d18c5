#include "kvlingua/model/generation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>
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

// Ids and their log-probabilities of several steps, each [rows of the session], on the host.
struct Choice {
  std::vector<int64_t> ids;
  std::vector<float> logprobs;
};

// [2, rows] float64 on the logits' device: the chosen ids (exact below 2^53) and their
// log-probabilities.
at::Tensor packed(const at::Tensor& logits, const at::Tensor& ids) {
  const at::Tensor logprobs = logits.gather(1, ids.unsqueeze(1)).squeeze(1) - logits.logsumexp(1);
  return at::stack({ids.to(at::kDouble), logprobs.to(at::kDouble)});
}

// [steps, 2, rows] -> one Choice a step; the only place where generation waits for a device.
std::vector<Choice> fetched(const std::vector<at::Tensor>& steps) {
  const at::Tensor host = at::stack(steps).to(at::kCPU).contiguous();
  const int64_t rows = host.size(2);
  std::vector<Choice> choices(steps.size());
  const double* value = host.const_data_ptr<double>();
  for (Choice& choice : choices) {
    for (int64_t r = 0; r < rows; ++r) choice.ids.push_back(static_cast<int64_t>(*value++));
    for (int64_t r = 0; r < rows; ++r) choice.logprobs.push_back(static_cast<float>(*value++));
  }
  return choices;
}

at::Tensor sampled_ids(const at::Tensor& logits, const GenerationOptions& options,
                       const std::vector<Random*>& random) {
  const at::Tensor host = logits.to(at::kCPU).contiguous();
  const at::Tensor ids = at::empty({host.size(0)}, at::kLong);
  const SamplingOptions sampling{options.temperature, options.top_k, options.top_p};
  for (int64_t r = 0; r < host.size(0); ++r) {
    const std::span<const float> row(host.const_data_ptr<float>() + r * host.size(1),
                                     static_cast<size_t>(host.size(1)));
    ids.data_ptr<int64_t>()[r] = sample(row, sampling, *random[static_cast<size_t>(r)]);
  }
  return ids.to(logits.device());
}

// How many steps run before the host looks whether all rows have ended. On a device each look waits
// for all that was asked of it; greedy steps need no look, a finished row's further tokens are
// thrown away.
int64_t steps_between_looks(const CausalLM& model, const GenerationOptions& options) {
  return model.device().is_cuda() && options.temperature == 0 && !options.on_token ? 8 : 1;
}

// Dropping finished rows copies the cache of the others. Where that is little beside the weights
// that every step reads, an eighth of the rows pays for it; else half. Counted are the tokens in
// it, not the room: how many rows there are changes how a GPU rounds, and two sessions that read
// the same text must go the same way.
bool worth_dropping(const CausalLM& model, const DecodeSession& session, int64_t alive) {
  const int64_t cache =
      session.rows() * session.tokens() *
      model.kv_shape().bytes_per_token(static_cast<int64_t>(at::elementSize(model.dtype())));
  const int64_t share = cache < model.weight_bytes() ? 8 : 2;
  return share * (session.rows() - alive) >= session.rows();
}

// Rows of a session as they are written. A finished one stays in the session until enough of them
// are (worth_dropping); what it goes on to say is thrown away.
class RowsInProgress {
 public:
  RowsInProgress(const CausalLM& model, DecodeSession& session, const GenerationOptions& options)
      : model_(model),
        session_(session),
        options_(options),
        positions_(model.config().max_position_embeddings),
        result_(static_cast<size_t>(session.rows())),
        done_(result_.size(), options.max_new_tokens == 0),
        in_session_(result_.size()) {
    std::iota(in_session_.begin(), in_session_.end(), 0);
    for (size_t row = 0; row < result_.size(); ++row)
      streams_.emplace_back(
          mix(options.seed, options.row_seeds.empty() ? row : options.row_seeds[row]));
  }

  std::vector<GeneratedRow> finished(at::Tensor logits) {
    while (!std::ranges::all_of(done_, [](bool done) { return done; })) {
      const std::vector<int64_t> first_positions = session_.next_positions();
      const std::vector<Choice> choices = fetched(choose(logits));
      const std::vector<int64_t> alive = take(choices, first_positions);
      if (alive.empty()) break;
      logits = session_.step(at::tensor(go_on_with(alive, choices.back().ids), at::kLong));
    }
    return std::move(result_);
  }

 private:
  // The next tokens of several steps, nothing of them on the host yet; `logits` becomes the last
  // step's.
  std::vector<at::Tensor> choose(at::Tensor& logits) {
    std::vector<Random*> random;
    for (const int64_t row : in_session_) random.push_back(&streams_[static_cast<size_t>(row)]);
    const int64_t room = positions_ - *std::ranges::max_element(session_.next_positions());
    const int64_t steps =
        std::min({steps_between_looks(model_, options_), options_.max_new_tokens - made_,
                  std::max<int64_t>(room, 0) + 1});
    std::vector<at::Tensor> chosen;
    for (int64_t s = 0; s < steps; ++s) {
      const at::Tensor ids =
          options_.temperature == 0 ? logits.argmax(1) : sampled_ids(logits, options_, random);
      chosen.push_back(packed(logits, ids));
      if (s + 1 < steps) logits = session_.step(ids);
    }
    made_ += steps;
    return chosen;
  }

  // Adds to each row what was chosen for it until it ends. Returns the session's rows that have
  // not.
  std::vector<int64_t> take(const std::vector<Choice>& choices,
                            const std::vector<int64_t>& first_positions) {
    std::vector<int64_t> alive;
    for (size_t i = 0; i < in_session_.size(); ++i) {
      const auto row = static_cast<size_t>(in_session_[i]);
      GeneratedRow& out = result_[row];
      for (size_t s = 0; s < choices.size() && !done_[row]; ++s) {
        out.logprobs.push_back(choices[s].logprobs[i]);
        const int64_t id = choices[s].ids[i];
        if (std::ranges::find(options_.stop_ids, id) != options_.stop_ids.end()) {
          out.stopped = done_[row] = true;
          continue;
        }
        out.ids.push_back(id);
        const bool go_on = !options_.on_token || options_.on_token(in_session_[i], id);
        done_[row] = !go_on || static_cast<int64_t>(out.ids.size()) >= options_.max_new_tokens ||
                     first_positions[i] + static_cast<int64_t>(s) >= positions_;
      }
      if (!done_[row]) alive.push_back(static_cast<int64_t>(i));
    }
    return alive;
  }

  // Drops finished rows where that is worth it; returns the ids that the session's rows go on with.
  std::vector<int64_t> go_on_with(const std::vector<int64_t>& alive, std::vector<int64_t> ids) {
    // A finished row at the last position could not take another step.
    const bool must_drop =
        std::ranges::any_of(session_.next_positions(), [&](int64_t p) { return p >= positions_; });
    if (!must_drop && !worth_dropping(model_, session_, static_cast<int64_t>(alive.size())))
      return ids;
    session_.keep_rows(alive);
    std::vector<int64_t> rows_left, ids_left;
    for (const int64_t i : alive) {
      rows_left.push_back(in_session_[static_cast<size_t>(i)]);
      ids_left.push_back(ids[static_cast<size_t>(i)]);
    }
    in_session_ = std::move(rows_left);
    return ids_left;
  }

  const CausalLM& model_;
  DecodeSession& session_;
  const GenerationOptions& options_;
  const int64_t positions_;
  std::vector<GeneratedRow> result_;
  std::vector<bool> done_;
  std::vector<int64_t> in_session_;  // [i]: the row that the session's row i continues
  std::vector<Random> streams_;
  int64_t made_ = 0;  // tokens of every row that is not done
};

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
  check(options, session.rows());
  return RowsInProgress(model, session, options).finished(first_logits);
}

}  // namespace kvlingua
