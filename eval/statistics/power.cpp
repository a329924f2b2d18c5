#include "eval/statistics/power.h"

#include <cmath>

#include "eval/statistics/distributions.h"
#include "eval/statistics/equivalence.h"
#include "eval/statistics/tests.h"

namespace kvlingua::stats {

namespace {

// Sums the probability of every (only_first, only_second) that `rejects` accepts, for n multinomial
// items.
template <class Rejects>
double sum_outcomes(double first, double second, int64_t n, const Rejects& rejects) {
  const double discordant = first + second;
  double power = 0;
  for (int64_t m = 0; m <= n; ++m) {
    const double log_m = log_binomial_pmf(m, n, discordant);
    if (log_m < -60) continue;
    for (int64_t b = 0; b <= m; ++b) {
      const double log_b = log_binomial_pmf(b, m, discordant > 0 ? first / discordant : 0.5);
      if (log_b > -60 && rejects(b, m - b)) power += std::exp(log_m + log_b);
    }
  }
  return power;
}

}  // namespace

double power_paired_t(double effect, int64_t n, double alpha) {
  const double df = static_cast<double>(n) - 1, shift = effect * std::sqrt(static_cast<double>(n));
  if (df < 1) return 0;
  const double critical = student_quantile(1 - alpha / 2, df);
  return 1 - noncentral_t_cdf(critical, df, shift) + noncentral_t_cdf(-critical, df, shift);
}

double power_two_proportions(double first, double second, int64_t n, double alpha) {
  const double effect = 2 * (std::asin(std::sqrt(first)) - std::asin(std::sqrt(second)));
  const double shift = effect * std::sqrt(static_cast<double>(n) / 2),
               critical = normal_quantile(1 - alpha / 2);
  return normal_cdf(shift - critical) + normal_cdf(-shift - critical);
}

double power_mcnemar(double only_first, double only_second, int64_t n, double alpha) {
  return sum_outcomes(only_first, only_second, n,
                      [&](int64_t b, int64_t c) { return mcnemar_exact(b, c).p <= alpha; });
}

double power_tost(double discordant, double margin, int64_t n, double alpha) {
  const double critical = normal_quantile(1 - alpha);
  return sum_outcomes(discordant / 2, discordant / 2, n, [&](int64_t b, int64_t c) {
    const PairedCounts counts{.only_first = b, .only_second = c, .neither = n - b - c};
    return tango_z(counts, -margin) >= critical && tango_z(counts, margin) <= -critical;
  });
}

}  // namespace kvlingua::stats
