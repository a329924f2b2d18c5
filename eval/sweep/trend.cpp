#include "eval/sweep/trend.h"

#include <set>

#include "eval/statistics/tests.h"

namespace kvlingua {

nlohmann::ordered_json trend_over_scales(const std::string& name, const std::vector<double>& sizes,
                                         const std::vector<double>& values) {
  nlohmann::ordered_json out = {{"sizes", sizes}, {"effects", values}, {"n_scales", values.size()}};
  if (values.size() >= 3) {
    const stats::TestResult rho = stats::spearman_exact(sizes, values);
    out["rho"] = rho.statistic;
    out["p_value"] = rho.p;
    out["direction_of_estimate"] = rho.statistic > 0.3    ? "increasing"
                                   : rho.statistic < -0.3 ? "decreasing"
                                                          : "flat";
  }
  // Three scales cannot show a trend: the smallest exact p of their order is 1 in 3. Two models of
  // one size are one scale.
  if (std::set<double>(sizes.begin(), sizes.end()).size() < 5)
    out["verdict"] = "too few scales";
  else if (out["p_value"].get<double>() <= 0.05)
    out["verdict"] = out["rho"].get<double>() > 0 ? "increasing" : "decreasing";
  else
    out["verdict"] = "undecided";
  out["comparison"] = name;
  return out;
}

}  // namespace kvlingua
