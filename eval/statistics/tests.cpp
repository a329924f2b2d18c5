#include "eval/statistics/tests.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/statistics/distributions.h"
#include "kvlingua/base/error.h"

namespace kvlingua::stats {

namespace {

void need(bool condition, const char* test, const std::string& got, const std::string& expected) {
  if (!condition)
    throw Error({.code = ExitCode::kUsage,
                 .where = cat("statistics: ", test),
                 .what = "not enough to test",
                 .got = got,
                 .expected = expected});
}

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments moments(const Sample& values) {
  Moments result;
  const double n = static_cast<double>(values.size());
  for (double v : values) result.mean += v / n;
  for (double v : values) result.variance += (v - result.mean) * (v - result.mean) / (n - 1);
  return result;
}

// Number of ways to get each U from 0 to n1 * n2 (Mann & Whitney 1947), by the generating function
// of q-binomials: one pass a row, so 8 against 1,000 values stays cheap. Doubles: only ratios are
// used.
std::vector<double> u_distribution(int64_t n1, int64_t n2) {
  if (n1 > n2) std::swap(n1, n2);  // the distribution is symmetric in the two
  const auto size = static_cast<size_t>(n1 * n2 + 1);
  std::vector<double> ways(size, 0);
  ways[0] = 1;
  for (int64_t k = 1; k <= n1; ++k) {
    const auto up = static_cast<size_t>(n2 + k), down = static_cast<size_t>(k);
    for (size_t u = size; u-- > up;) ways[u] -= ways[u - up];        // times (1 - q^(n2+k))
    for (size_t u = down; u < size; ++u) ways[u] += ways[u - down];  // over (1 - q^k)
  }
  return ways;
}

double exact_p(double u, int64_t n1, int64_t n2) {
  const std::vector<double> ways = u_distribution(n1, n2);
  const double total = std::accumulate(ways.begin(), ways.end(), 0.0);
  double tail = 0;
  for (size_t k = static_cast<size_t>(std::llround(u)); k < ways.size(); ++k) tail += ways[k];
  return std::min(1.0, 2 * tail / total);
}

}  // namespace

TestResult mcnemar_exact(int64_t only_first, int64_t only_second) {
  need(only_first >= 0 && only_second >= 0, "mcnemar", cat(only_first, " and ", only_second),
       "counts");
  const int64_t smaller = std::min(only_first, only_second), n = only_first + only_second;
  return {static_cast<double>(smaller),
          n == 0 ? 1.0 : std::min(1.0, 2 * binomial_cdf(smaller, n, 0.5))};
}

WelchResult welch(const Sample& a, const Sample& b, double confidence) {
  need(a.size() >= 2 && b.size() >= 2, "welch", cat(a.size(), " and ", b.size(), " values"),
       "two values each");
  const Moments ma = moments(a), mb = moments(b);
  const double va = ma.variance / static_cast<double>(a.size()),
               vb = mb.variance / static_cast<double>(b.size());
  const double error = std::sqrt(va + vb), difference = ma.mean - mb.mean;
  WelchResult result;
  if (error == 0) {  // both constant: equal is certainly equal, unequal certainly is not
    result.p = difference == 0 ? 1 : 0;
    result.difference = {difference, difference, difference};
    return result;
  }
  result.df =
      (va + vb) * (va + vb) /
      (va * va / static_cast<double>(a.size() - 1) + vb * vb / static_cast<double>(b.size() - 1));
  result.statistic = difference / error;
  result.p = 2 * student_cdf(-std::abs(result.statistic), result.df);
  const double half = student_quantile(0.5 + confidence / 2, result.df) * error;
  result.difference = {difference, difference - half, difference + half};
  return result;
}

std::vector<double> ranks(const Sample& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return values[i] < values[j]; });
  std::vector<double> result(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double rank = (static_cast<double>(begin + end) + 1) / 2;
    for (size_t i = begin; i < end; ++i) result[order[i]] = rank;
    begin = end;
  }
  return result;
}

TestResult mann_whitney(const Sample& a, const Sample& b) {
  need(!a.empty() && !b.empty(), "mann_whitney", cat(a.size(), " and ", b.size(), " values"),
       "one value each");
  Sample all = a;
  all.insert(all.end(), b.begin(), b.end());
  const std::vector<double> rank = ranks(all);
  const double n1 = static_cast<double>(a.size()), n2 = static_cast<double>(b.size()), n = n1 + n2;
  const double u1 =
      std::accumulate(rank.begin(), rank.begin() + static_cast<int64_t>(a.size()), 0.0) -
      n1 * (n1 + 1) / 2;
  const double u = std::max(u1, n1 * n2 - u1);

  std::sort(all.begin(), all.end());
  double ties = 0;  // sum of t^3 - t over groups of equal values
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin;
    while (end < all.size() && all[end] == all[begin]) ++end;
    const double t = static_cast<double>(end - begin);
    ties += t * t * t - t;
    begin = end;
  }
  if (ties == 0 && (a.size() <= 8 || b.size() <= 8))
    return {u1, exact_p(u, static_cast<int64_t>(a.size()), static_cast<int64_t>(b.size()))};

  const double deviation = std::sqrt(n1 * n2 / 12 * ((n + 1) - ties / (n * (n - 1))));
  if (deviation == 0) return {u1, 1.0};
  const double z = (u - n1 * n2 / 2 - 0.5) / deviation;
  return {u1, std::clamp(2 * normal_cdf(-z), 0.0, 1.0)};
}

TestResult spearman(const Sample& x, const Sample& y) {
  need(x.size() == y.size() && x.size() >= 3, "spearman",
       cat(x.size(), " and ", y.size(), " values"), "equally many, three at least");
  const std::vector<double> rx = ranks(x), ry = ranks(y);
  const double middle = (static_cast<double>(x.size()) + 1) / 2;
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < rx.size(); ++i) {
    xx += (rx[i] - middle) * (rx[i] - middle);
    yy += (ry[i] - middle) * (ry[i] - middle);
    xy += (rx[i] - middle) * (ry[i] - middle);
  }
  if (xx == 0 || yy == 0) return {0, 1};
  const double rho = std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0),
               df = static_cast<double>(x.size()) - 2;
  if (std::abs(rho) == 1) return {rho, 0};
  const double t = rho * std::sqrt(df / ((1 - rho) * (1 + rho)));
  return {rho, 2 * student_cdf(-std::abs(t), df)};
}

TestResult spearman_exact(const Sample& x, const Sample& y) {
  TestResult result = spearman(x, y);
  if (x.size() > 9) return result;
  const std::vector<double> rx = ranks(x), ry = ranks(y);
  const double middle = (static_cast<double>(x.size()) + 1) / 2;
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto product = [&] {
    double sum = 0;
    for (size_t i = 0; i < order.size(); ++i) sum += (rx[i] - middle) * (ry[order[i]] - middle);
    return sum;
  };
  const double seen = std::abs(product());
  double as_far = 0, all = 0;
  do {
    as_far += std::abs(product()) >= seen - 1e-9;
    all += 1;
  } while (std::next_permutation(order.begin(), order.end()));
  result.p = as_far / all;
  return result;
}

double partial_spearman(const Sample& x, const Sample& y, const Sample& z) {
  const double xy = spearman(x, y).statistic, xz = spearman(x, z).statistic,
               yz = spearman(y, z).statistic;
  const double left = (1 - xz * xz) * (1 - yz * yz);
  return left > 1e-12 ? std::clamp((xy - xz * yz) / std::sqrt(left), -1.0, 1.0) : 0;
}

std::vector<double> holm(const std::vector<double>& p_values) {
  std::vector<size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return p_values[i] < p_values[j]; });
  std::vector<double> adjusted(p_values.size());
  double running = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    running = std::max(running, static_cast<double>(p_values.size() - i) * p_values[order[i]]);
    adjusted[order[i]] = std::min(1.0, running);
  }
  return adjusted;
}

}  // namespace kvlingua::stats
