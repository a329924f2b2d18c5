#include "eval/statistics/interval.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "eval/statistics/distributions.h"
#include "kvlingua/base/error.h"

namespace kvlingua::stats {

namespace {

void check(int64_t successes, int64_t n, double confidence) {
  if (n < 0 || successes < 0 || successes > n)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics",
                 .what = "impossible count",
                 .got = cat(successes, " of ", n),
                 .expected = "0 <= successes <= n"});
  if (!(confidence > 0 && confidence < 1))
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics",
                 .what = "impossible confidence",
                 .got = cat(confidence),
                 .expected = "a number between 0 and 1"});
}

}  // namespace

Interval wilson(int64_t successes, int64_t n, double confidence) {
  check(successes, n, confidence);
  if (n == 0) return {0, 0, 1};
  const double z = normal_quantile(0.5 + confidence / 2), count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count;
  const double denominator = 1 + z * z / count;
  const double centre = (p + z * z / (2 * count)) / denominator;
  const double half =
      z * std::sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / denominator;
  // At the ends the bound is exactly 0 or 1; rounding must not say otherwise.
  return {p, successes == 0 ? 0 : std::max(0.0, centre - half),
          successes == n ? 1 : std::min(1.0, centre + half)};
}

Interval clopper_pearson(int64_t successes, int64_t n, double confidence) {
  check(successes, n, confidence);
  if (n == 0) return {0, 0, 1};
  const double tail = (1 - confidence) / 2, k = static_cast<double>(successes),
               count = static_cast<double>(n);
  return {k / count, successes == 0 ? 0 : beta_quantile(tail, k, count - k + 1),
          successes == n ? 1 : beta_quantile(1 - tail, k + 1, count - k)};
}

Interval mean_interval(const double* values, int64_t n, double confidence) {
  check(0, n, confidence);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (n == 0) return {0, -infinity, infinity};
  double mean = 0;
  for (int64_t i = 0; i < n; ++i) mean += values[i] / static_cast<double>(n);
  if (n == 1) return {mean, -infinity, infinity};
  double square = 0;
  for (int64_t i = 0; i < n; ++i) square += (values[i] - mean) * (values[i] - mean);
  const double degrees = static_cast<double>(n - 1);
  const double half = student_quantile(0.5 + confidence / 2, degrees) *
                      std::sqrt(square / degrees / static_cast<double>(n));
  return {mean, mean - half, mean + half};
}

}  // namespace kvlingua::stats
