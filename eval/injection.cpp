#include "eval/injection.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace kvlingua {

namespace {

// Batches of rows in the order given; `visit(begin, end)`.
template <class Visit>
void in_batches(size_t n, int64_t batch_size, const Visit& visit) {
  const auto step = static_cast<size_t>(std::max<int64_t>(1, batch_size));
  for (size_t begin = 0; begin < n; begin += step) visit(begin, std::min(n, begin + step));
}

}  // namespace

GivenBatch stack_given(const std::vector<Given>& rows,
                       const std::vector<std::vector<int64_t>>& extra) {
  GivenBatch batch;
  std::vector<KvCache> pasts;
  std::vector<std::vector<int64_t>> tokens;
  for (size_t r = 0; r < rows.size(); ++r) {
    pasts.push_back(rows[r].past);
    tokens.push_back(rows[r].tokens);
    if (!extra.empty()) tokens.back().insert(tokens.back().end(), extra[r].begin(), extra[r].end());
  }
  batch.past = stack_padded(pasts);
  batch.tokens = TokenBatch::from_rows(tokens);
  // Positions are said, not inferred: a pasted cache may leave a gap before the tokens.
  const int64_t width = batch.tokens.ids_BT.size(1);
  batch.tokens.positions_BT = at::empty_like(batch.tokens.ids_BT);
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto length = static_cast<int64_t>(tokens[r].size());
    auto* row = batch.tokens.positions_BT.data_ptr<int64_t>() + static_cast<int64_t>(r) * width;
    for (int64_t t = 0; t < width; ++t) row[t] = rows[r].position + std::min(t, length - 1);
  }
  return batch;
}

std::vector<GeneratedRow> answer(const Reader& target, const std::vector<Given>& rows,
                                 int64_t max_new_tokens, int64_t batch_size) {
  const at::NoGradGuard no_grad;
  std::vector<GeneratedRow> answers;
  in_batches(rows.size(), batch_size, [&](size_t begin, size_t end) {
    const GivenBatch batch = stack_given(
        {rows.begin() + static_cast<int64_t>(begin), rows.begin() + static_cast<int64_t>(end)});
    for (auto& row : generate(*target.model, batch.tokens, batch.past_or_null(),
                              {.max_new_tokens = max_new_tokens, .stop_ids = target.stop_ids}))
      answers.push_back(std::move(row));
  });
  return answers;
}

std::vector<Likelihood> likelihoods(const Reader& target, const std::vector<Given>& rows,
                                    const std::vector<std::vector<int64_t>>& answers,
                                    int64_t batch_size, bool want_distributions) {
  const at::NoGradGuard no_grad;
  std::vector<Likelihood> result(rows.size());
  std::vector<size_t> scored;  // rows that have an answer
  for (size_t r = 0; r < rows.size(); ++r) {
    result[r].nll = std::nan("");
    if (!answers[r].empty()) scored.push_back(r);
  }
  in_batches(scored.size(), batch_size, [&](size_t begin, size_t end) {
    std::vector<Given> given;
    std::vector<std::vector<int64_t>> extra;
    std::vector<int64_t> places;  // (row, token) pairs whose logits predict the answer's tokens
    std::vector<int64_t> wanted;
    for (size_t k = begin; k < end; ++k) {
      const Given& row = rows[scored[k]];
      const auto& ids = answers[scored[k]];
      given.push_back(row);
      extra.emplace_back(ids.begin(), ids.end() - 1);  // the last token is predicted, never read
      for (size_t t = 0; t < ids.size(); ++t) {
        places.push_back(static_cast<int64_t>(k - begin));
        places.push_back(static_cast<int64_t>(row.tokens.size() - 1 + t));
        wanted.push_back(ids[t]);
      }
    }
    const GivenBatch batch = stack_given(given, extra);
    PrefillOptions options;
    options.logits = LogitsAt::kPositions;
    options.logit_positions = at::tensor(places, at::kLong).view({-1, 2});
    options.want_cache = false;
    const at::Tensor log_probs = at::log_softmax(
        target.model->prefill(batch.tokens, batch.past_or_null(), options).logits, 1);
    const at::Tensor chosen =
        log_probs.gather(1, at::tensor(wanted, at::kLong).to(log_probs.device()).unsqueeze(1))
            .squeeze(1)
            .to(at::kCPU, at::kDouble);
    int64_t at_row = 0;
    for (size_t k = begin; k < end; ++k) {
      const auto length = static_cast<int64_t>(answers[scored[k]].size());
      Likelihood& one = result[scored[k]];
      one.nll = -chosen.narrow(0, at_row, length).mean().item<double>();
      if (want_distributions) one.log_probs_TV = log_probs.narrow(0, at_row, length).clone();
      at_row += length;
    }
  });
  return result;
}

double mean_kl(const at::Tensor& reference, const at::Tensor& other) {
  const at::Tensor p = reference.to(at::kDouble);
  return (p.exp() * (p - other.to(p.device(), at::kDouble))).sum(1).mean().item<double>();
}

}  // namespace kvlingua
