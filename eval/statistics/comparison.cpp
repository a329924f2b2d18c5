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

// A bootstrap of n values is too narrow by the root of (n - 1) / n, and one of a mean knows no
// Student (Hesterberg 2015, "expanded"); draws of d each carry their own deviation, which is
// Student's part already.
double widening(double n) { return std::sqrt(n / (n - 1)); }
double student_widening(double n, double df, double confidence) {
  return widening(n) * student_quantile(0.5 + confidence / 2, df) /
         normal_quantile(0.5 + confidence / 2);
}

// BCa, since draws of d lie further out than d by as much as d itself does.
Interval expanded(double estimate, std::vector<double> draws, const std::vector<double>& influence,
                  double expand, double confidence) {
  if (std::isnan(estimate)) return {estimate, -INFINITY, INFINITY};
  Interval interval = bca_interval(estimate, std::move(draws), influence, confidence);
  interval.low = estimate - expand * (estimate - interval.low);
  interval.high = estimate + expand * (interval.high - estimate);
  return interval;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

// Inside one group: sums of squares and products about its means, of the centred length x, its
// square z and the value y.
struct Scatter {
  double n = 0, mean_x = 0, mean_z = 0, mean_y = 0;
  double xx = 0, xz = 0, zz = 0, xy = 0, zy = 0, yy = 0;
};

template <class Index>
Scatter scatter_of(const LengthGroup& group, double centre, const Index& index) {
  Scatter s;
  s.n = static_cast<double>(group.values.size());
  for (size_t i = 0; i < group.values.size(); ++i) {
    const double x = group.lengths[index(i)] - centre;
    s.mean_x += x / s.n;
    s.mean_z += x * x / s.n;
    s.mean_y += group.values[index(i)] / s.n;
  }
  for (size_t i = 0; i < group.values.size(); ++i) {
    const double length = group.lengths[index(i)] - centre;
    const double x = length - s.mean_x, z = length * length - s.mean_z,
                 y = group.values[index(i)] - s.mean_y;
    s.xx += x * x, s.xz += x * z, s.zz += z * z;
    s.xy += x * y, s.zy += z * y, s.yy += y * y;
  }
  return s;
}

double centre_of(const std::vector<LengthGroup>& groups) {
  double sum = 0, n = 0;
  for (const LengthGroup& group : groups)
    for (const double length : group.lengths) sum += length, n += 1;
  return n > 0 ? sum / n : 0;
}

std::vector<Scatter> scatters_of(const std::vector<LengthGroup>& groups, double centre) {
  std::vector<Scatter> scatters;
  for (const LengthGroup& group : groups)
    scatters.push_back(scatter_of(group, centre, [](size_t i) { return i; }));
  return scatters;
}

// Pooled over groups: the least squares of y on x and z, and the quadratic form of their inverse.
struct Fit {
  Scatter sum;
  double slope = 0, bend = 0;
  int64_t terms = 0;  // of the curve that the lengths determine
  // variance of slope dx + bend dz, in units of the error's
  double spread(double dx, double dz) const {
    if (terms == 0) return 0;
    if (terms == 1) return dx * dx / sum.xx;
    const double determinant = sum.xx * sum.zz - sum.xz * sum.xz;
    return (sum.zz * dx * dx - 2 * sum.xz * dx * dz + sum.xx * dz * dz) / determinant;
  }
};
Fit fit_of(const std::vector<Scatter>& scatters) {
  Fit fit;
  Scatter& sum = fit.sum;
  for (const Scatter& s : scatters) {
    sum.xx += s.xx, sum.xz += s.xz, sum.zz += s.zz;
    sum.xy += s.xy, sum.zy += s.zy, sum.yy += s.yy;
  }
  if (!(sum.xx > 1e-12)) return fit;
  fit.terms = 1;
  fit.slope = sum.xy / sum.xx;
  const double determinant = sum.xx * sum.zz - sum.xz * sum.xz;
  if (!(determinant > 1e-9 * sum.xx * sum.zz)) return fit;
  fit.terms = 2;
  fit.slope = (sum.zz * sum.xy - sum.xz * sum.zy) / determinant;
  fit.bend = (sum.xx * sum.zy - sum.xz * sum.xy) / determinant;
  return fit;
}

double adjusted_difference(const Scatter& a, const Scatter& b, const Fit& fit) {
  return (a.mean_y - b.mean_y) - fit.slope * (a.mean_x - b.mean_x) -
         fit.bend * (a.mean_z - b.mean_z);
}

// d of the adjusted values: their means and scatters follow from the raw ones.
double adjusted_d(const Scatter& a, const Scatter& b, const Fit& fit) {
  const auto left = [&](const Scatter& s) {
    const double quadratic =
        fit.slope * fit.slope * s.xx + 2 * fit.slope * fit.bend * s.xz + fit.bend * fit.bend * s.zz;
    return std::max(0.0, s.yy - 2 * (fit.slope * s.xy + fit.bend * s.zy) + quadratic);
  };
  const double variance = (left(a) + left(b)) / (a.n + b.n - 2);
  const double difference = adjusted_difference(a, b, fit);
  const double size = std::abs(a.mean_y) + std::abs(b.mean_y);
  // What is left is rounding: nothing but length was there.
  if (!(variance > 1e-20 * size * size)) return std::abs(difference) <= 1e-8 * size ? 0 : NAN;
  return difference / std::sqrt(variance);
}

// Leave-one-out influence on the adjusted d of the two groups' values,
// the curve made again each time.
std::vector<double> adjusted_influence(const std::vector<LengthGroup>& groups,
                                       std::vector<Scatter> scatters, size_t first, size_t second,
                                       double centre) {
  std::vector<double> influence;
  for (const size_t g : {first, second}) {
    const Scatter whole = scatters[g];
    const size_t n = groups[g].values.size();
    if (n <= 2) continue;
    std::vector<double> left;
    for (size_t out = 0; out < n; ++out) {
      LengthGroup rest = groups[g];
      rest.values.erase(rest.values.begin() + static_cast<int64_t>(out));
      rest.lengths.erase(rest.lengths.begin() + static_cast<int64_t>(out));
      scatters[g] = scatter_of(rest, centre, [](size_t i) { return i; });
      left.push_back(adjusted_d(scatters[first], scatters[second], fit_of(scatters)));
    }
    scatters[g] = whole;
    const double middle = mean_of(left);
    for (const double v : left)
      if (std::isfinite(v)) influence.push_back((v - middle) * (1 - 1 / static_cast<double>(n)));
  }
  return influence;
}

// Of each group the number inside the other's range; the smaller one.
int64_t overlap_of(const std::vector<double>& a, const std::vector<double>& b) {
  const auto inside = [](const std::vector<double>& some, const std::vector<double>& other) {
    const auto [low, high] = std::ranges::minmax(other);
    int64_t n = 0;
    for (const double v : some) n += v >= low && v <= high;
    return n;
  };
  return std::min(inside(a, b), inside(b, a));
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

// Student's p of the adjusted difference, errors from all groups with one curve.
double covariance_p(const std::vector<Scatter>& scatters, size_t first, size_t second) {
  double n = 0;
  int64_t groups = 0;
  for (const Scatter& s : scatters)
    if (s.n > 0) n += s.n, ++groups;
  const Fit fit = fit_of(scatters);
  const double df = n - static_cast<double>(groups + fit.terms);
  if (df < 1) return 1;
  const double explained = fit.slope * fit.sum.xy + fit.bend * fit.sum.zy;
  const double error = std::max(0.0, fit.sum.yy - explained) / df;
  const Scatter &a = scatters[first], &b = scatters[second];
  const double difference = adjusted_difference(a, b, fit);
  const double variance =
      error * (1 / a.n + 1 / b.n + fit.spread(a.mean_x - b.mean_x, a.mean_z - b.mean_z));
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
  const auto smaller = static_cast<double>(std::min(a.size(), b.size()));
  result.d = expanded(d, std::move(effects), jackknife_influence(a, b, &cohens_d),
                      widening(smaller), options.confidence);
  const auto mean_difference = [](const Sample& x, const Sample& y) {
    return mean_of(x) - mean_of(y);
  };
  result.difference =
      expanded(result.a.mean - result.b.mean, std::move(differences),
               jackknife_influence(a, b, mean_difference),
               student_widening(smaller, df, options.confidence), options.confidence);
  return result;
}

const char* effect_label(double d) {
  const double size = std::abs(d);
  return size < 0.2 ? "negligible" : size < 0.5 ? "small" : size < 0.8 ? "medium" : "large";
}

LengthCurve length_curve(const std::vector<LengthGroup>& groups) {
  const double centre = centre_of(groups);
  const Fit fit = fit_of(scatters_of(groups, centre));
  return {centre, fit.slope, fit.bend};
}

AdjustedEffect adjusted_effect(const std::vector<LengthGroup>& groups, size_t first, size_t second,
                               const ComparisonOptions& options) {
  check_groups(groups, first, second);
  const double centre = centre_of(groups);
  std::vector<Scatter> scatters = scatters_of(groups, centre);
  const Fit fit = fit_of(scatters);
  AdjustedEffect result;
  result.curve = {centre, fit.slope, fit.bend};
  result.p = covariance_p(scatters, first, second);
  result.length_d = cohens_d(groups[first].lengths, groups[second].lengths);
  result.overlap = overlap_of(groups[first].lengths, groups[second].lengths);
  const double d = adjusted_d(scatters[first], scatters[second], fit);

  const std::vector<Scatter> fixed = scatters;
  const std::vector<double> influences = adjusted_influence(groups, fixed, first, second, centre);
  Random random(options.seed);
  std::vector<double> draws;
  std::vector<size_t> picked;
  for (int64_t i = 0; i < options.draws; ++i) {
    for (size_t g = 0; g < groups.size(); ++g) {
      picked.clear();
      const size_t n = groups[g].values.size();
      for (size_t k = 0; k < n; ++k) picked.push_back(random.below(n));
      scatters[g] = scatter_of(groups[g], centre, [&](size_t k) { return picked[k]; });
    }
    draws.push_back(adjusted_d(scatters[first], scatters[second], fit_of(scatters)));
  }
  result.d = expanded(d, std::move(draws), influences,
                      widening(std::min(fixed[first].n, fixed[second].n)), options.confidence);
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
