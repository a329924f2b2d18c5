#include "eval/injection.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace kvlingua {

namespace {

using Tokens = std::vector<std::vector<int64_t>>;

// Positions are said, not inferred: a pasted cache may leave a gap before the tokens. Padding
// repeats its row's last position.
TokenBatch placed(const Tokens& rows, const std::vector<int64_t>& first_positions) {
  TokenBatch batch = TokenBatch::from_rows(rows);
  batch.positions_BT = at::empty_like(batch.ids_BT);
  const int64_t width = batch.ids_BT.size(1);
  auto* position = batch.positions_BT.mutable_data_ptr<int64_t>();
  for (size_t r = 0; r < rows.size(); ++r)
    for (int64_t t = 0; t < width; ++t)
      *position++ = first_positions[r] + std::min(t, static_cast<int64_t>(rows[r].size()) - 1);
  return batch;
}

DecodeSession session_of(const Reader& target, const std::vector<Given>& rows, int64_t room) {
  std::vector<KvCache> pasts;
  int64_t longest = 0;
  for (const Given& row : rows) {
    pasts.push_back(row.past);
    longest = std::max(longest, static_cast<int64_t>(row.tokens.size()));
  }
  const KvCache past = stack_padded(pasts);
  room += longest;
  return past.empty() ? DecodeSession(*target.model, static_cast<int64_t>(rows.size()), room)
                      : DecodeSession(*target.model, past, room);
}

// Log-probabilities of all the answers' tokens, row after row [sum of lengths, V]. A row's first
// token is predicted by `last_BV`, the others by reading the ones before them after `past`.
at::Tensor log_probs_of(const Reader& target, const KvCache& past,
                        const std::vector<int64_t>& next_positions, const at::Tensor& last_BV,
                        const Tokens& answers) {
  Tokens read;
  std::vector<int64_t> places, order;  // (row, token) of the logits wanted; where each token's lie
  const auto rows = static_cast<int64_t>(answers.size());
  for (int64_t r = 0; r < rows; ++r) {
    const auto& ids = answers[static_cast<size_t>(r)];
    for (size_t t = 0; t < ids.size(); ++t) {
      order.push_back(t == 0 ? r : rows + static_cast<int64_t>(places.size() / 2));
      if (t == 0) continue;
      places.push_back(r);
      places.push_back(static_cast<int64_t>(t) - 1);
    }
    // The last token is predicted, never read; a row with nothing to read stands in with anything.
    read.emplace_back(ids.begin(), ids.empty() ? ids.end() : ids.end() - 1);
    if (read.back().empty()) read.back().push_back(0);
  }
  at::Tensor logits = last_BV;
  if (!places.empty()) {
    PrefillOptions options;
    options.logits = LogitsAt::kPositions;
    options.logit_positions = at::tensor(places, at::kLong).view({-1, 2});
    options.want_cache = false;
    logits = at::cat(
        {last_BV, target.model->prefill(placed(read, next_positions), &past, options).logits});
  }
  const at::Tensor index = at::tensor(order, at::kLong).to(logits.device());
  return at::log_softmax(logits.index_select(0, index), 1);
}

}  // namespace

ReadRows::ReadRows(const Reader& target, const std::vector<Given>& rows, int64_t room)
    : target_(&target), session_(session_of(target, rows, room)) {
  const at::NoGradGuard no_grad;
  Tokens tokens;
  std::vector<int64_t> positions;
  for (const Given& row : rows) {
    tokens.push_back(row.tokens);
    positions.push_back(row.position);
  }
  logits_BV_ = session_.append(placed(tokens, positions));
}

std::vector<Likelihood> ReadRows::likelihoods(const Tokens& answers,
                                              bool want_distributions) const {
  const at::NoGradGuard no_grad;
  std::vector<Likelihood> result(answers.size());
  std::vector<int64_t> wanted;
  for (const auto& ids : answers) wanted.insert(wanted.end(), ids.begin(), ids.end());
  if (wanted.empty()) {
    for (Likelihood& one : result) one.nll = std::nan("");
    return result;
  }
  const at::Tensor log_probs =
      log_probs_of(*target_, session_.cache(), session_.next_positions(), logits_BV_, answers);
  const at::Tensor chosen =
      log_probs.gather(1, at::tensor(wanted, at::kLong).to(log_probs.device()).unsqueeze(1))
          .squeeze(1)
          .to(at::kCPU, at::kDouble);
  int64_t begin = 0;
  for (size_t r = 0; r < answers.size(); ++r) {
    const auto length = static_cast<int64_t>(answers[r].size());
    result[r].nll =
        length == 0 ? std::nan("") : -chosen.narrow(0, begin, length).mean().item<double>();
    if (want_distributions && length > 0)
      result[r].log_probs_TV = log_probs.narrow(0, begin, length);
    begin += length;
  }
  return result;
}

std::vector<GeneratedRow> ReadRows::answer(int64_t max_new_tokens) {
  return generate_from(*target_->model, session_, logits_BV_,
                       {.max_new_tokens = max_new_tokens, .stop_ids = target_->stop_ids});
}

std::vector<GeneratedRow> answer(const Reader& target, const std::vector<Given>& rows,
                                 int64_t max_new_tokens, int64_t batch_size) {
  std::vector<GeneratedRow> answers;
  in_batches(rows.size(), batch_size, [&](size_t begin, size_t end) {
    ReadRows read(
        target,
        {rows.begin() + static_cast<int64_t>(begin), rows.begin() + static_cast<int64_t>(end)},
        max_new_tokens);
    for (auto& row : read.answer(max_new_tokens)) answers.push_back(std::move(row));
  });
  return answers;
}

std::vector<Likelihood> likelihoods(const Reader& target, const std::vector<Given>& rows,
                                    const Tokens& answers, int64_t batch_size,
                                    bool want_distributions) {
  std::vector<Likelihood> result;
  in_batches(rows.size(), batch_size, [&](size_t begin, size_t end) {
    const auto first = static_cast<int64_t>(begin), last = static_cast<int64_t>(end);
    const ReadRows read(target, {rows.begin() + first, rows.begin() + last});
    for (auto& one :
         read.likelihoods({answers.begin() + first, answers.begin() + last}, want_distributions))
      result.push_back(std::move(one));
  });
  return result;
}

double mean_kl(const at::Tensor& reference_TV, const at::Tensor& other_TV) {
  const at::Tensor other = other_TV.to(reference_TV.device());
  return (reference_TV.exp() * (reference_TV - other)).sum(1).to(at::kDouble).mean().item<double>();
}

}  // namespace kvlingua
