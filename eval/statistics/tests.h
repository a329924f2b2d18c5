// Hypothesis tests: exact McNemar, Welch, Mann-Whitney, Spearman, and Holm's correction across a
// family of tests.
//
// Every p-value is two-sided. Definitions follow scipy.stats and statsmodels, to which the goldens
// agree to 1e-6.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/statistics/interval.h"

namespace kvlingua::stats {

using Sample = std::vector<double>;

struct TestResult {
  double statistic = 0;
  double p = 1;
};

// Paired yes/no outcomes: `only_first` items where the first succeeded and the second did not, and
// the reverse. The exact (binomial) test; statistic = min(only_first, only_second).
TestResult mcnemar_exact(int64_t only_first, int64_t only_second);

struct WelchResult {
  double statistic = 0;
  double df = 0;
  double p = 1;
  Interval difference;  // mean(a) - mean(b)
};
// Unequal variances. Each sample needs two values; throws Error (kUsage).
WelchResult welch(const Sample& a, const Sample& b, double confidence = 0.95);

// statistic = U of the first sample. Exact where a sample has at most 8 values and nothing is tied,
// else normal with tie and continuity correction: scipy.stats.mannwhitneyu(method="auto").
TestResult mann_whitney(const Sample& a, const Sample& b);

// Rank correlation with average ranks for ties; p by Student's t with n - 2 degrees. n >= 3, equal
// lengths. A constant sample has no ranks to correlate: statistic 0, p 1.
TestResult spearman(const Sample& x, const Sample& y);

// The same with the exact p of all orders where there are at most nine pairs (no approximation
// holds for a handful of scales); scipy.stats.permutation_test(permutation_type="pairings").
TestResult spearman_exact(const Sample& x, const Sample& y);
// Rank correlation of x and y with z held fixed; 0 where nothing is left:
//   (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2))
double partial_spearman(const Sample& x, const Sample& y, const Sample& z);

// Adjusted p-values in the order given: a hypothesis is rejected at level a when its adjusted p is
// <= a.
std::vector<double> holm(const std::vector<double>& p_values);

// Ranks from 1, ties share their average.
std::vector<double> ranks(const Sample& values);

}  // namespace kvlingua::stats
