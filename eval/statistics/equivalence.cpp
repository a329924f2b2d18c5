#include "eval/statistics/equivalence.h"

#include <algorithm>
#include <cmath>

#include "eval/statistics/distributions.h"
#include "kvlingua/base/error.h"

namespace kvlingua::stats {

PairedCounts PairedCounts::of(const std::vector<bool>& first, const std::vector<bool>& second) {
  if (first.size() != second.size())
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics",
                 .what = "pairs are needed",
                 .got = cat(first.size(), " and ", second.size(), " outcomes")});
  PairedCounts counts;
  for (size_t i = 0; i < first.size(); ++i) {
    if (first[i])
      ++(second[i] ? counts.both : counts.only_first);
    else
      ++(second[i] ? counts.only_second : counts.neither);
  }
  return counts;
}

double tango_z(const PairedCounts& counts, double difference) {
  return tango_z(static_cast<double>(counts.n()), static_cast<double>(counts.only_first),
                 static_cast<double>(counts.only_second), difference);
}

double tango_z(double n, double only_first, double only_second, double difference) {
  const double b = only_first, c = only_second;
  // Maximum-likelihood share of "only second" given the difference: root of A q^2 + B q + C = 0.
  const double qa = 2 * n;
  const double qb = -b - c + (2 * n - b + c) * difference;
  const double qc = -c * difference * (1 - difference);
  const double q = (std::sqrt(std::max(0.0, qb * qb - 4 * qa * qc)) - qb) / (2 * qa);
  const double variance = n * (2 * q + difference * (1 - difference));
  const double distance = b - c - n * difference;
  if (variance <= 0) return distance == 0 ? 0 : std::copysign(HUGE_VAL, distance);
  return distance / std::sqrt(variance);
}

Interval paired_difference(const PairedCounts& counts, double confidence) {
  if (counts.n() == 0) return {0, -1, 1};
  const double estimate =
      static_cast<double>(counts.only_first - counts.only_second) / static_cast<double>(counts.n());
  const double z = normal_quantile(0.5 + confidence / 2);
  // tango_z falls as the difference grows; its crossings of +z and -z are the ends.
  const auto crossing = [&](double level) {
    double low = -1, high = 1;
    for (int i = 0; i < 100; ++i) {
      const double middle = (low + high) / 2;
      (tango_z(counts, middle) > level ? low : high) = middle;
    }
    return (low + high) / 2;
  };
  return {estimate, std::min(estimate, crossing(z)), std::max(estimate, crossing(-z))};
}

Tost tost_proportions(const PairedCounts& counts, double low, double high, double alpha) {
  Tost result;
  result.difference = paired_difference(counts, 1 - 2 * alpha);
  if (counts.n() == 0) return result;
  result.p_low = normal_cdf(-tango_z(counts, low));
  result.p_high = normal_cdf(tango_z(counts, high));
  result.p = std::max(result.p_low, result.p_high);
  return result;
}

Tost tost_means(const std::vector<double>& a, const std::vector<double>& b, double low, double high,
                double alpha) {
  if (a.size() != b.size() || a.size() < 2)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: tost",
                 .what = "pairs are needed",
                 .got = cat(a.size(), " and ", b.size(), " values"),
                 .expected = "two pairs at least"});
  std::vector<double> d(a.size());
  for (size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b[i];
  const double n = static_cast<double>(d.size()), df = n - 1;
  Tost result;
  result.difference = mean_interval(d.data(), static_cast<int64_t>(d.size()), 1 - 2 * alpha);
  double square = 0;
  for (double v : d) square += (v - result.difference.estimate) * (v - result.difference.estimate);
  const double error = std::sqrt(square / df / n), mean = result.difference.estimate;
  const auto t = [&](double bound) {
    return error > 0 ? (mean - bound) / error : (mean > bound ? HUGE_VAL : -HUGE_VAL);
  };
  result.p_low = 1 - student_cdf(t(low), df);
  result.p_high = student_cdf(t(high), df);
  result.p = std::max(result.p_low, result.p_high);
  return result;
}

}  // namespace kvlingua::stats
