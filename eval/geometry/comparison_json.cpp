#include "eval/geometry/comparison_json.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

Json moments_json(const stats::Moments& m) {
  return {{"n", m.n}, {"mean", m.mean}, {"std", m.deviation}};
}

}  // namespace

Json interval_json(const stats::Interval& interval) {
  const auto finite = [](double v) { return std::isfinite(v) ? Json(v) : Json(); };
  return {{"estimate", finite(interval.estimate)},
          {"low", finite(interval.low)},
          {"high", finite(interval.high)}};
}

Json normality_json(const stats::Normality& normal) {
  if (!normal.tested) return {{"statistic", nullptr}, {"p_value", nullptr}, {"is_normal", nullptr}};
  return {{"statistic", normal.w}, {"p_value", normal.p}, {"is_normal", normal.is_normal()}};
}

Json comparison_json(const stats::Comparison& c) {
  const Json d = interval_json(c.d), difference = interval_json(c.difference);
  return {
      {"group1", moments_json(c.a)},
      {"group2", moments_json(c.b)},
      {"normality",
       {{"group1", normality_json(c.normal_a)}, {"group2", normality_json(c.normal_b)}}},
      {"welch_t", {{"statistic", c.welch.statistic}, {"df", c.welch.df}, {"p_value", c.welch.p}}},
      {"mann_whitney", {{"statistic", c.mann_whitney.statistic}, {"p_value", c.mann_whitney.p}}},
      {"cohens_d",
       {{"d", c.d.estimate},
        {"ci_lower", d["low"]},
        {"ci_upper", d["high"]},
        {"interpretation", stats::effect_label(c.d.estimate)}}},
      {"hedges_g", c.g},
      {"bootstrap_difference",
       {{"estimate", c.difference.estimate},
        {"ci_lower", difference["low"]},
        {"ci_upper", difference["high"]},
        {"p_value", c.difference_p}}},
      {"conservative_p", c.conservative_p},
      {"recommended_p", c.conservative_p},
      {"recommended_test", "conservative_max"}};
}

Json corrections_json(const std::vector<std::string>& keys, const std::vector<double>& p,
                      const std::vector<double>& corrected) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return p[i]; });
  Json rows = Json::array();
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const size_t i = order[rank];
    rows.push_back({{"comparison", keys[i]},
                    {"original_p", p[i]},
                    {"corrected_p", corrected[i]},
                    {"reject_null", corrected[i] <= 0.05},
                    {"rank", rank + 1}});
  }
  return {{"method", "holm"}, {"n_comparisons", p.size()}, {"corrections", rows}};
}

}  // namespace kvlingua
