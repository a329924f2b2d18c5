// Power of the planned number of items: what a run can find before it is run.
#pragma once

#include <cstdint>

namespace kvlingua::stats {

// Two-sided paired t test, effect in standard deviations of the difference (statsmodels
// TTestPower).
double power_paired_t(double effect, int64_t n, double alpha = 0.05);
// Two independent rates, n each, by the arcsine effect (statsmodels NormalIndPower with
// proportion_effectsize).
double power_two_proportions(double first, double second, int64_t n, double alpha = 0.05);
// Exact McNemar with the given chances of either discordant outcome; summed over all outcomes.
double power_mcnemar(double only_first, double only_second, int64_t n, double alpha = 0.05);
// Tango's TOST within +-margin when the truth is no difference and `discordant` of the items
// disagree; summed over all outcomes.
double power_tost(double discordant, double margin, int64_t n, double alpha = 0.05);

}  // namespace kvlingua::stats
