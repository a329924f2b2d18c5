// Injection: puts what a condition gives before the target, lets it answer, and measures how likely
// the gold answer was.
//
// Rows of different length are padded and masked; a row's result never depends on the rows beside
// it (to rounding). What a row is given is read once: the answer and all likelihoods start there.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/conditions/condition.h"
#include "kvlingua/model/decode_session.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {

// How the target would have continued with a given answer.
struct Likelihood {
  double nll = 0;  // mean over the answer's tokens, nats; NaN for an empty answer
  // Mean over the answer's tokens of KL(reference || here), nats; NaN where no reference was given.
  double kl = std::numeric_limits<double>::quiet_NaN();
  at::Tensor log_probs_TV;  // float32, [answer tokens, vocabulary]; only when asked for
};

// Of each row the log-probabilities [answer tokens, vocabulary] that its own are compared with;
// undefined: with none.
using References = std::vector<at::Tensor>;

// One batch of rows, read by the target.
class ReadRows {
 public:
  // `room`: tokens that will be generated, a hint. Where every row has a span to read, the target
  // reads them where they stand (no cache is cut or pasted); where only some have, those are read
  // first and placed like the others.
  ReadRows(const Reader& target, const std::vector<Given>& rows, int64_t room = 0);

  // One answer a row. The vocabulary is there for a few hundred tokens at a time,
  // whatever the rows.
  std::vector<Likelihood> likelihoods(const std::vector<std::vector<int64_t>>& answers,
                                      bool want_distributions,
                                      const References& references = {}) const;
  // Greedy answers. Goes on in the same memory: the last thing to ask for.
  std::vector<GeneratedRow> answer(int64_t max_new_tokens);

 private:
  // Hidden rows that predict the answers' tokens, answer after answer.
  at::Tensor predicting_rows(const std::vector<std::vector<int64_t>>& answers) const;

  const Reader* target_;
  DecodeSession session_;
  at::Tensor last_BC_;  // what the head reads after each row's last token, [rows, hidden]
};

// Greedy answers, `batch_size` rows at a time.
std::vector<GeneratedRow> answer(const Reader& target, const std::vector<Given>& rows,
                                 int64_t max_new_tokens, int64_t batch_size);

// What one row came to, scored. What was read, likelihoods and bytes are the caller's to add.
Answer to_answer(const std::string& condition, const Probe& probe, const GeneratedRow& row,
                 const Reader& reader);

// Of one answer a row, `batch_size` rows at a time.
std::vector<Likelihood> likelihoods(const Reader& target, const std::vector<Given>& rows,
                                    const std::vector<std::vector<int64_t>>& answers,
                                    int64_t batch_size, bool want_distributions);

}  // namespace kvlingua
