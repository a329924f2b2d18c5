// Standardised differences of two independent samples: Cohen's d (pooled deviation) and Hedges' g
// (d without its small-sample bias, by the exact factor of Hedges 1981), with stratified BCa
// bootstrap intervals.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/statistics/interval.h"

namespace kvlingua::stats {

// Two values at least in each sample; equal constants give 0. Throws Error (kUsage).
double cohens_d(const std::vector<double>& a, const std::vector<double>& b);
double hedges_g(const std::vector<double>& a, const std::vector<double>& b);
// gamma(df / 2) / (sqrt(df / 2) gamma((df - 1) / 2))
double hedges_correction(double df);

using Effect = double (*)(const std::vector<double>&, const std::vector<double>&);
// Leave-one-out influence of every value of `a`, then of `b`: what the acceleration of a two-sample
// BCa interval stands on.
std::vector<double> jackknife_influence(const std::vector<double>& a, const std::vector<double>& b,
                                        Effect effect);

struct EffectOptions {
  int64_t resamples = 2000;
  double confidence = 0.95;
  uint64_t seed = 0;
};
Interval cohens_d_interval(const std::vector<double>& a, const std::vector<double>& b,
                           const EffectOptions& options = {});
Interval hedges_g_interval(const std::vector<double>& a, const std::vector<double>& b,
                           const EffectOptions& options = {});

}  // namespace kvlingua::stats
