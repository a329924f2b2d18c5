// The ladder: one aligned layer < all layers < network < distilled. Does each rung carry more than
// the one below it, on the same items?
//
// Neighbouring rungs are compared item by item: the difference of exact answers with the wider of
// BCa bootstrap over whole groups and Tango's score interval (statistics/clustered.h); a test that
// flips the signs of whole groups, Holm across the rungs of a family.
#pragma once

#include <cstdint>
#include <optional>

#include "eval/answers/answer.h"
#include "eval/report/report.h"

namespace kvlingua {

struct LadderOptions {
  double confidence = 0.95;
  int64_t resamples = 20000;
  uint64_t seed = 0;
};

// None with fewer than two rungs.
std::optional<Ladder> ladder(const Answers& answers, const LadderOptions& options);

}  // namespace kvlingua
