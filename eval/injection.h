// Injection: puts what a condition gives before the target, lets it answer, and measures how likely
// the gold answer was.
//
// Rows of different length are padded and masked; a row's result never depends on the rows beside
// it (to rounding). What a row is given is read once: the answer and all likelihoods start there.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "eval/conditions/condition.h"
#include "kvlingua/model/decode_session.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {

// How the target would have continued with a given answer.
struct Likelihood {
  double nll = 0;           // mean over the answer's tokens, nats; NaN for an empty answer
  at::Tensor log_probs_TV;  // float32, [answer tokens, vocabulary]; only when asked for
};

// One batch of rows, read by the target.
class ReadRows {
 public:
  // `room`: tokens that will be generated, a hint.
  ReadRows(const Reader& target, const std::vector<Given>& rows, int64_t room = 0);

  // One answer a row.
  std::vector<Likelihood> likelihoods(const std::vector<std::vector<int64_t>>& answers,
                                      bool want_distributions) const;
  // Greedy answers. Goes on in the same memory: the last thing to ask for.
  std::vector<GeneratedRow> answer(int64_t max_new_tokens);

 private:
  const Reader* target_;
  DecodeSession session_;
  at::Tensor logits_BV_;  // after each row's last token
};

// Greedy answers, `batch_size` rows at a time.
std::vector<GeneratedRow> answer(const Reader& target, const std::vector<Given>& rows,
                                 int64_t max_new_tokens, int64_t batch_size);

// Of one answer a row, `batch_size` rows at a time.
std::vector<Likelihood> likelihoods(const Reader& target, const std::vector<Given>& rows,
                                    const std::vector<std::vector<int64_t>>& answers,
                                    int64_t batch_size, bool want_distributions);

// Mean over tokens of KL(reference || other), nats; both log-probabilities [T, V].
double mean_kl(const at::Tensor& reference_TV, const at::Tensor& other_TV);

}  // namespace kvlingua
