// Drawing the next token from logits: temperature, then top-k, then top-p, in transformers' order
// and meaning.
#pragma once

#include <cstdint>
#include <span>

#include "kvlingua/base/random.h"

namespace kvlingua {

struct SamplingOptions {
  double temperature = 1.0;  // above 0
  int64_t top_k = 0;         // 0: off
  double top_p = 1.0;        // 1: off
};

// The index drawn. Consumes one number of `random` whatever the options, so that streams stay
// comparable.
int64_t sample(std::span<const float> logits, const SamplingOptions& options, Random& random);

}  // namespace kvlingua
