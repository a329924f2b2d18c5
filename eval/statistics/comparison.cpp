#include "eval/statistics/comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "eval/statistics/distributions.h"
#include "eval/statistics/effect_size.h"
#include "eval/statistics/resampling.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua::stats {

namespace {

// Sums that a mean difference and a pooled deviation follow from.
struct Sums {
  double n = 0, sum = 0, squares = 0;
  void add(double v) { n += 1, sum += v, squares += v * v; }
  double mean() const { return sum / n; }
  double scatter() const { return std::max(0.0, squares - sum * sum / n); }
};

double d_of(const Sums& a, const Sums& b) {
  const double variance = (a.scatter() + b.scatter()) / (a.n + b.n - 2);
  const double difference = a.mean() - b.mean();
  if (!(variance > 1e-24 * (1 + difference * difference)))
    return difference == 0 ? 0 : std::numeric_limits<double>::quiet_NaN();
  return difference / std::sqrt(variance);
}

// Shifted by a common centre, so that sums of squares lose no digits.
std::vector<double> shifted(const std::vector<double>& values, double centre) {
  std::vector<double> out;
  for (const double v : values) out.push_back(v - centre);
  return out;
}

Sums resampled(const std::vector<double>& values, Random& random) {
  Sums sums;
  for (size_t i = 0; i < values.size(); ++i) sums.add(values[random.below(values.size())]);
  return sums;
}

Interval percentile(double estimate, std::vector<double> draws, double confidence) {
  std::erase_if(draws, [](double v) { return std::isnan(v); });
  if (draws.empty()) return {estimate, -INFINITY, INFINITY};
  std::sort(draws.begin(), draws.end());
  const double tail = (1 - confidence) / 2;
  return {estimate, quantile(draws, tail), quantile(draws, 1 - tail)};
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

// Inside one group: sums of squares and products about its means.
struct Scatter {
  double n = 0, mean_x = 0, mean_y = 0, xx = 0, xy = 0, yy = 0;
};

template <class Index>
Scatter scatter_of(const LengthGroup& group, const Index& index) {
  Scatter s;
  s.n = static_cast<double>(group.values.size());
  for (size_t i = 0; i < group.values.size(); ++i) {
    s.mean_x += group.lengths[index(i)] / s.n;
    s.mean_y += group.values[index(i)] / s.n;
  }
  for (size_t i = 0; i < group.values.size(); ++i) {
    const double x = group.lengths[index(i)] - s.mean_x, y = group.values[index(i)] - s.mean_y;
    s.xx += x * x, s.xy += x * y, s.yy += y * y;
  }
  return s;
}

double slope_of(const std::vector<Scatter>& scatters) {
  double xx = 0, xy = 0;
  for (const Scatter& s : scatters) xx += s.xx, xy += s.xy;
  return xx > 1e-12 ? xy / xx : 0;
}

// d of the adjusted values: their means and scatters follow from the raw ones.
double adjusted_d(const Scatter& a, const Scatter& b, double slope) {
  const auto left = [&](const Scatter& s) {
    return std::max(0.0, s.yy - 2 * slope * s.xy + slope * slope * s.xx);
  };
  const double variance = (left(a) + left(b)) / (a.n + b.n - 2);
  const double difference = (a.mean_y - b.mean_y) - slope * (a.mean_x - b.mean_x);
  const double size = std::abs(a.mean_y) + std::abs(b.mean_y);
  // What is left is rounding: nothing but length was there.
  if (!(variance > 1e-20 * size * size)) return std::abs(difference) <= 1e-8 * size ? 0 : NAN;
  return difference / std::sqrt(variance);
}

void check_groups(const std::vector<LengthGroup>& groups, size_t first, size_t second) {
  const auto refuse = [](std::string what) {
    throw Error({.code = ExitCode::kUsage, .where = "statistics: adjusted_effect", .what = what});
  };
  if (first >= groups.size() || second >= groups.size()) refuse("no such group");
  for (const LengthGroup& group : groups)
    if (group.values.size() != group.lengths.size()) refuse("one length a value is needed");
  if (groups[first].values.size() < 2 || groups[second].values.size() < 2)
    refuse("two values at least in each group");
}

// Student's p of the adjusted difference, errors from all groups with one slope.
double covariance_p(const std::vector<Scatter>& scatters, size_t first, size_t second) {
  double xx = 0, xy = 0, yy = 0, n = 0;
  int64_t groups = 0;
  for (const Scatter& s : scatters)
    if (s.n > 0) xx += s.xx, xy += s.xy, yy += s.yy, n += s.n, ++groups;
  const bool sloped = xx > 1e-12;
  const double df = n - static_cast<double>(groups) - (sloped ? 1 : 0);
  if (df < 1) return 1;
  const double error = std::max(0.0, yy - (sloped ? xy * xy / xx : 0)) / df;
  const Scatter &a = scatters[first], &b = scatters[second];
  const double dx = a.mean_x - b.mean_x;
  const double difference = a.mean_y - b.mean_y - (sloped ? xy / xx : 0) * dx;
  const double variance = error * (1 / a.n + 1 / b.n + (sloped ? dx * dx / xx : 0));
  const double size = std::abs(a.mean_y) + std::abs(b.mean_y);
  if (std::abs(difference) <= 1e-8 * size) return 1;
  if (!(variance > 0)) return 0;
  return 2 * student_cdf(-std::abs(difference) / std::sqrt(variance), df);
}

}  // namespace

Moments moments(std::vector<double> values) {
  Moments m;
  m.n = static_cast<int64_t>(values.size());
  if (values.empty()) return m;
  std::sort(values.begin(), values.end());
  m.mean = mean_of(values);
  double scatter = 0;
  for (const double v : values) scatter += (v - m.mean) * (v - m.mean);
  m.deviation = m.n > 1 ? std::sqrt(scatter / static_cast<double>(m.n - 1)) : 0;
  m.median = quantile(values, 0.5);
  m.low = values.front();
  m.high = values.back();
  return m;
}

Comparison compare(const std::vector<double>& a, const std::vector<double>& b,
                   const ComparisonOptions& options) {
  Comparison result;
  result.a = moments(a);
  result.b = moments(b);
  result.normal_a = shapiro_wilk(a);
  result.normal_b = shapiro_wilk(b);
  result.welch = welch(a, b, options.confidence);
  result.mann_whitney = mann_whitney(a, b);
  result.conservative_p = std::max(result.welch.p, result.mann_whitney.p);
  const double d = cohens_d(a, b), df = static_cast<double>(a.size() + b.size()) - 2;
  result.g = d * (1 - 3 / (4 * df - 1));

  const double centre = mean_of(a);
  const std::vector<double> left = shifted(a, centre), right = shifted(b, centre);
  Random random(options.seed);
  std::vector<double> effects, differences;
  int64_t below = 0, above = 0;
  for (int64_t i = 0; i < options.draws; ++i) {
    const Sums x = resampled(left, random);
    const Sums y = resampled(right, random);
    effects.push_back(d_of(x, y));
    differences.push_back(x.mean() - y.mean());
    below += differences.back() <= 0;
    above += differences.back() >= 0;
  }
  const double draws = static_cast<double>(options.draws);
  result.difference_p =
      std::clamp(2 * static_cast<double>(std::min(below, above)) / draws, 1 / draws, 1.0);
  result.d = percentile(d, std::move(effects), options.confidence);
  result.difference =
      percentile(result.a.mean - result.b.mean, std::move(differences), options.confidence);
  return result;
}

const char* effect_label(double d) {
  const double size = std::abs(d);
  return size < 0.2 ? "negligible" : size < 0.5 ? "small" : size < 0.8 ? "medium" : "large";
}

double within_slope(const std::vector<LengthGroup>& groups) {
  std::vector<Scatter> scatters;
  for (const LengthGroup& group : groups)
    scatters.push_back(scatter_of(group, [](size_t i) { return i; }));
  return slope_of(scatters);
}

AdjustedEffect adjusted_effect(const std::vector<LengthGroup>& groups, size_t first, size_t second,
                               const ComparisonOptions& options) {
  check_groups(groups, first, second);
  std::vector<Scatter> scatters;
  for (const LengthGroup& group : groups)
    scatters.push_back(scatter_of(group, [](size_t i) { return i; }));
  AdjustedEffect result;
  result.slope = slope_of(scatters);
  result.p = covariance_p(scatters, first, second);
  result.length_d = cohens_d(groups[first].lengths, groups[second].lengths);
  const double d = adjusted_d(scatters[first], scatters[second], result.slope);

  Random random(options.seed);
  std::vector<double> draws;
  std::vector<size_t> picked;
  for (int64_t i = 0; i < options.draws; ++i) {
    for (size_t g = 0; g < groups.size(); ++g) {
      picked.clear();
      const size_t n = groups[g].values.size();
      for (size_t k = 0; k < n; ++k) picked.push_back(random.below(n));
      scatters[g] = scatter_of(groups[g], [&](size_t k) { return picked[k]; });
    }
    draws.push_back(adjusted_d(scatters[first], scatters[second], slope_of(scatters)));
  }
  result.d = percentile(d, std::move(draws), options.confidence);
  return result;
}

double power_two_samples(double d, int64_t n_a, int64_t n_b, double alpha) {
  const double a = static_cast<double>(n_a), b = static_cast<double>(n_b);
  const double shift = std::abs(d) * std::sqrt(a * b / (a + b)), z = normal_quantile(1 - alpha / 2);
  return normal_cdf(shift - z) + normal_cdf(-shift - z);
}

Shown beyond(const Interval& interval, double threshold) {
  if (interval.low > threshold || interval.high < -threshold) return Shown::kYes;
  if (interval.low > -threshold && interval.high < threshold) return Shown::kNo;
  return Shown::kUndecided;
}

const char* to_string(Shown shown) {
  switch (shown) {
    case Shown::kYes:
      return "shown";
    case Shown::kNo:
      return "none";
    default:
      return "undecided";
  }
}

}  // namespace kvlingua::stats
