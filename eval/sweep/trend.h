// A figure against scale: rank correlation with its exact p, and a verdict only where there are
// enough scales to have one.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua {

// {sizes, effects, n_scales, rho, p_value, direction_of_estimate, verdict, comparison}. `verdict`
// is "too few scales" below five different sizes, else "increasing", "decreasing" or "undecided" at
// the 5 % level. rho and p are missing below three.
nlohmann::ordered_json trend_over_scales(const std::string& name, const std::vector<double>& sizes,
                                         const std::vector<double>& values);

}  // namespace kvlingua
