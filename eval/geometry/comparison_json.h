// A comparison of two groups as results files hold it: the keys of sweep's 27 comparisons and of
// identity's pairs of personas.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/statistics/comparison.h"

namespace kvlingua {

// estimate, low, high; null where there is no number.
nlohmann::ordered_json interval_json(const stats::Interval& interval);
nlohmann::ordered_json normality_json(const stats::Normality& normal);
// group1, group2, normality, welch_t, mann_whitney, cohens_d, hedges_g, bootstrap_difference,
// conservative_p, recommended_p, recommended_test.
nlohmann::ordered_json comparison_json(const stats::Comparison& compared);
// Holm over a family: method, n_comparisons and corrections, the smallest p first.
nlohmann::ordered_json corrections_json(const std::vector<std::string>& keys,
                                        const std::vector<double>& p,
                                        const std::vector<double>& corrected);

}  // namespace kvlingua
