#include "eval/statistics/distributions.h"

#include <boost/math/distributions/beta.hpp>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/non_central_t.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

namespace kvlingua::stats {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
}

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

double normal_quantile(double p) {
  if (p <= 0) return -kInfinity;
  if (p >= 1) return kInfinity;
  return boost::math::quantile(boost::math::normal_distribution<double>(), p);
}

double student_cdf(double t, double df) {
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  return boost::math::cdf(boost::math::students_t_distribution<double>(df), t);
}

double student_quantile(double p, double df) {
  if (p <= 0) return -kInfinity;
  if (p >= 1) return kInfinity;
  return boost::math::quantile(boost::math::students_t_distribution<double>(df), p);
}

double noncentral_t_cdf(double t, double df, double shift) {
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  return boost::math::cdf(boost::math::non_central_t_distribution<double>(df, shift), t);
}

double chi_squared_sf(double x, double df) {
  if (x <= 0) return 1;
  return boost::math::cdf(
      boost::math::complement(boost::math::chi_squared_distribution<double>(df), x));
}

double beta_quantile(double p, double a, double b) {
  return boost::math::quantile(boost::math::beta_distribution<double>(a, b), p);
}

double binomial_cdf(int64_t k, int64_t n, double p) {
  if (k < 0) return 0;
  if (k >= n) return 1;
  return boost::math::cdf(boost::math::binomial_distribution<double>(static_cast<double>(n), p),
                          static_cast<double>(k));
}

double log_binomial_pmf(int64_t k, int64_t n, double p) {
  if (k < 0 || k > n) return -kInfinity;
  if (p <= 0) return k == 0 ? 0 : -kInfinity;
  if (p >= 1) return k == n ? 0 : -kInfinity;
  const auto kd = static_cast<double>(k), nd = static_cast<double>(n);
  return std::lgamma(nd + 1) - std::lgamma(kd + 1) - std::lgamma(nd - kd + 1) + kd * std::log(p) +
         (nd - kd) * std::log1p(-p);
}

}  // namespace kvlingua::stats
