// Confidence intervals of a rate.
//
// Wilson (1927) is the interval every rate of a report carries: it has near-nominal coverage from n
// = 10 on and never leaves [0, 1]. Clopper-Pearson (1934) never covers less than it says, at the
// price of width; it is offered for gates that must not be optimistic. Formulas as in
// statsmodels.stats.proportion.proportion_confint.
#pragma once

#include <cstdint>

namespace kvlingua::stats {

struct Interval {
  double estimate = 0;
  double low = 0;
  double high = 0;
};

// `successes` of `n` independent trials. n = 0 gives {0, 0, 1}: nothing is known. Throws Error
// (kUsage) unless 0 <= successes <= n and 0 < confidence < 1.
Interval wilson(int64_t successes, int64_t n, double confidence = 0.95);
Interval clopper_pearson(int64_t successes, int64_t n, double confidence = 0.95);

// The interval of a mean by Student's t; n = 1 gives an infinite one. `values` are n doubles.
Interval mean_interval(const double* values, int64_t n, double confidence = 0.95);

}  // namespace kvlingua::stats
