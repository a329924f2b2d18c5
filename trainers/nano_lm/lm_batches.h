// Batches of the language-model trainer: dialogues of the built-in corpus as padded token rows with
// loss weights.
//
// One optimizer step takes `batch` dialogues, sorts them by length and cuts them into
// micro-batches, so that little is padding; their losses are summed and divided by the weight of
// the whole step, so the cut changes no result. Step i is a function of the seed and i alone: a
// resumed run needs no state.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "datasets/corpus/synthetic_corpus.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct LmMicroBatch {
  TokenBatch batch;
  at::Tensor positions_N2;  // (row, token) whose logits predict the next token
  at::Tensor targets_N;     // that next token
  // its weight over the weight of the step: losses of all micro-batches add up
  at::Tensor weights_N;
  at::Tensor answers_N;  // true where the next token belongs to an answer
  int64_t tokens = 0;    // real ones
};

class LmBatches {
 public:
  LmBatches(SyntheticCorpus corpus, const Tokenizer& tokenizer, ChatFamily family, int64_t batch,
            int64_t micro_batch);
  std::vector<LmMicroBatch> step(int64_t index, at::Device device) const;

 private:
  SyntheticCorpus corpus_;
  const Tokenizer* tokenizer_;
  ChatFamily family_;
  int64_t batch_;
  int64_t micro_batch_;
};

}  // namespace kvlingua
