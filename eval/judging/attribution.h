// Attribution: how much of what is recovered comes from this content,
// on answers and on likelihoods.
//
// Two paired shares for each family and projector, over whole groups: of the gap between baseline
// and full_text, and of the gap between the best wrong-content control (noise, shuffled, averaged,
// wrong_text) and full_text. The first can be high for a cache that only sounds right: a map of one
// layer recovers most of the likelihood and answers nothing. So likelihoods are no transfer metric.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/report/report.h"

namespace kvlingua {

struct AttributionOptions {
  double confidence = 0.95;
  int64_t resamples = 2000;
  uint64_t seed = 0;
};

// `projectors`: conditions that get a gain; controls get a share alone.
Attribution attribution(const Answers& answers, const std::vector<std::string>& projectors,
                        const AttributionOptions& options);

}  // namespace kvlingua
