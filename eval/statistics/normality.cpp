#include "eval/statistics/normality.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "eval/statistics/distributions.h"

namespace kvlingua::stats {

namespace {

template <size_t N>
double polynomial(const std::array<double, N>& c, double x) {
  double value = 0;
  for (size_t i = N; i > 0; --i) value = value * x + c[i - 1];
  return value;
}

// The weights of the upper half of the order statistics, largest first.
std::vector<double> weights(size_t n) {
  constexpr std::array first = {0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056};
  constexpr std::array second = {0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633};
  const size_t half = n / 2;
  if (n == 3) return {std::numbers::sqrt2 / 2};
  std::vector<double> expected(half);
  double sum = 0;
  for (size_t i = 0; i < half; ++i) {
    expected[i] =
        normal_quantile((static_cast<double>(i) + 0.625) / (static_cast<double>(n) + 0.25));
    sum += 2 * expected[i] * expected[i];
  }
  const double root = std::sqrt(sum), u = 1 / std::sqrt(static_cast<double>(n));
  std::vector<double> a(half);
  a[0] = polynomial(first, u) - expected[0] / root;
  size_t rest = 1;
  double above = sum - 2 * expected[0] * expected[0], below = 1 - 2 * a[0] * a[0];
  if (n > 5) {
    a[1] = polynomial(second, u) - expected[1] / root;
    above -= 2 * expected[1] * expected[1];
    below -= 2 * a[1] * a[1];
    rest = 2;
  }
  const double factor = std::sqrt(above / below);
  for (size_t i = rest; i < half; ++i) a[i] = -expected[i] / factor;
  return a;
}

double p_value(double w, double one_minus_w, double n) {
  if (n == 3)
    return std::max(0.0, 6 / std::numbers::pi * (std::asin(std::sqrt(w)) - std::numbers::pi / 3));
  double y = std::log(one_minus_w), mean = 0, deviation = 0;
  if (n <= 11) {
    const double gamma = -2.273 + 0.459 * n;
    if (y >= gamma) return 1e-99;
    y = -std::log(gamma - y);
    mean = polynomial(std::array{0.544, -0.39978, 0.025054, -6.714e-4}, n);
    deviation = std::exp(polynomial(std::array{1.3822, -0.77857, 0.062767, -0.0020322}, n));
  } else {
    const double x = std::log(n);
    mean = polynomial(std::array{-1.5861, -0.31082, -0.083751, 0.0038915}, x);
    deviation = std::exp(polynomial(std::array{-0.4803, -0.082676, 0.0030302}, x));
  }
  return normal_cdf(-(y - mean) / deviation);
}

}  // namespace

Normality shapiro_wilk(std::vector<double> values) {
  const size_t n = values.size();
  if (n < 3 || n > 5000) return {};
  std::sort(values.begin(), values.end());
  if (!(values.back() - values.front() > 0)) return {};
  const std::vector<double> a = weights(n);
  double mean = 0, squares = 0, weighted = 0, norm = 0;
  for (const double v : values) mean += v / static_cast<double>(n);
  for (const double v : values) squares += (v - mean) * (v - mean);
  for (size_t i = 0; i < a.size(); ++i) {
    weighted += a[i] * (values[n - 1 - i] - values[i]);
    norm += 2 * a[i] * a[i];
  }
  const double w = std::min(1.0, weighted * weighted / (norm * squares));
  return {w, p_value(w, std::max(1 - w, 1e-19), static_cast<double>(n)), true};
}

}  // namespace kvlingua::stats
