// Summary: the table of conditions, from answers alone.
//
// Rates carry Wilson intervals over distinct observations, widened for what stands together in
// groups (statistics/clustered.h); differences from baseline and full_text are paired, tested by
// flipping the signs of whole groups and corrected by Holm across all conditions of a family.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/report/report.h"

namespace kvlingua {

// One row a condition, in this order; definitions, bytes and seconds are not known here.
std::vector<ConditionNumbers> summarise(const Answers& answers,
                                        const std::vector<std::string>& conditions,
                                        double confidence, uint64_t seed = 0);

// Of exact answers under two conditions on the same items, family by family.
std::vector<FamilyDifference> paired_differences(const Answers& answers, const std::string& first,
                                                 const std::string& second, double confidence,
                                                 uint64_t seed = 0);

// `count` in `n` independent trials.
Rate rate_of(int64_t count, int64_t n, double confidence);

// Means over items of all families: of every condition that was rated, and of the gated one.
Retention retention(const std::vector<ConditionNumbers>& conditions, const std::string& gated);

}  // namespace kvlingua
