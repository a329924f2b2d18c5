// Summary: the table of conditions, from answers alone.
//
// Rates carry Wilson intervals over distinct observations, widened for what stands together in
// groups (statistics/clustered.h); differences from baseline and full_text are paired, tested by
// flipping the signs of whole groups and corrected by Holm across all conditions of a family.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/answer.h"

namespace kvlingua {

// conditions.{name}.families.{family}: n, distinct, groups, success, partial, stalled, stalls{kind: count},
// injected, parametric, both, other (each {rate, low, high}), memorisation_ratio, nll,
// nll_parametric, kl, tokens_generated, forms{...}, vs_baseline, vs_full_text.
nlohmann::ordered_json summarise(const Answers& answers, const std::vector<std::string>& conditions,
                                 double confidence, uint64_t seed = 0);

// {family: {difference, low, high, n, p, p_holm}} of exact answers under two conditions on the same
// items.
nlohmann::ordered_json paired_differences(const Answers& answers, const std::string& first,
                                          const std::string& second, double confidence,
                                          uint64_t seed = 0);

// {rate, low, high} of `count` in `n` independent trials.
nlohmann::ordered_json rate_json(int64_t count, int64_t n, double confidence);

}  // namespace kvlingua
