// Injection: puts what a condition gives before the target, lets it answer, and measures how likely
// the gold answer was.
//
// Rows of different length are padded and masked; a row's result never depends on the rows beside
// it (to rounding).
#pragma once

#include <cstdint>
#include <vector>

#include "eval/conditions/condition.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {

struct GivenBatch {
  KvCache past;
  TokenBatch tokens;  // with positions
  const KvCache* past_or_null() const { return past.empty() ? nullptr : &past; }
};
// `extra[r]` is read after row r's own tokens (a gold answer); empty vector: nothing.
GivenBatch stack_given(const std::vector<Given>& rows,
                       const std::vector<std::vector<int64_t>>& extra = {});

// Greedy answers, `batch_size` rows at a time.
std::vector<GeneratedRow> answer(const Reader& target, const std::vector<Given>& rows,
                                 int64_t max_new_tokens, int64_t batch_size);

// How the target would have continued with given answers.
struct Likelihood {
  double nll = 0;           // mean over the answer's tokens, nats; NaN for an empty answer
  at::Tensor log_probs_TV;  // float32, [answer tokens, vocabulary]; only when asked for
};
std::vector<Likelihood> likelihoods(const Reader& target, const std::vector<Given>& rows,
                                    const std::vector<std::vector<int64_t>>& answers,
                                    int64_t batch_size, bool want_distributions);

// Mean over tokens of KL(reference || other), nats; both log-probabilities [T, V].
double mean_kl(const at::Tensor& reference_TV, const at::Tensor& other_TV);

}  // namespace kvlingua
