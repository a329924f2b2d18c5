// Equivalence and non-inferiority of paired conditions: "no difference" has to be shown, it is not
// the absence of a finding.
//
// TOST (two one-sided tests, Schuirmann 1987). Means: paired t (statsmodels ttost_paired).
// Proportions: Tango's (1998) score test of a paired difference, which stays honest when no item is
// discordant, where a Wald test would claim certainty.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/statistics/interval.h"

namespace kvlingua::stats {

// How two conditions fared on the same items.
struct PairedCounts {
  int64_t both = 0, only_first = 0, only_second = 0, neither = 0;
  int64_t n() const { return both + only_first + only_second + neither; }
  static PairedCounts of(const std::vector<bool>& first,
                         const std::vector<bool>& second);  // equal lengths
};

// z of the hypothesis rate(first) - rate(second) = difference, in (-1, 1); negative when less was
// seen.
double tango_z(const PairedCounts& counts, double difference);
// The same from counts that need not be whole (divided by a design effect, clustered.h).
double tango_z(double n, double only_first, double only_second, double difference);
// Score interval of rate(first) - rate(second). n = 0 gives [-1, 1].
Interval paired_difference(const PairedCounts& counts, double confidence = 0.95);

struct Tost {
  double p_low = 1;     // of "the difference is at or below `low`"
  double p_high = 1;    // of "the difference is at or above `high`"
  double p = 1;         // the larger: equivalence is shown at level a when p <= a
  Interval difference;  // with confidence 1 - 2 * alpha: inside (low, high) exactly when p <= alpha
                        // (up to rounding)
};
Tost tost_proportions(const PairedCounts& counts, double low, double high, double alpha = 0.05);
// Paired values, at least two. Throws Error (kUsage).
Tost tost_means(const std::vector<double>& a, const std::vector<double>& b, double low, double high,
                double alpha = 0.05);

}  // namespace kvlingua::stats
