// The few distribution functions the statistics need, over Boost.Math; NaN-free for the arguments
// used here.
#pragma once

#include <cstdint>

namespace kvlingua::stats {

double normal_cdf(double z);
double normal_quantile(double p);  // p in [0, 1]; the ends give -/+ infinity
double student_cdf(double t, double df);
double student_quantile(double p, double df);
double noncentral_t_cdf(double t, double df, double shift);
double chi_squared_sf(double x, double df);
double beta_quantile(double p, double a, double b);
double binomial_cdf(int64_t k, int64_t n, double p);
double log_binomial_pmf(int64_t k, int64_t n, double p);

}  // namespace kvlingua::stats
