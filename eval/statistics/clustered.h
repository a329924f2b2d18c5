// What a verdict stands on: rates, differences and shares of items that come in groups.
//
// The unit is the group (items about one person, one fact, one object), never the item: the two
// forms of one content agree far too often to count twice. Two intervals are made and the wider one
// is reported, always: the BCa bootstrap over whole groups, which sees the data but claims
// certainty where nothing varies, and a score interval (Tango 1998, Wilson 1927) on counts divided
// by the design effect, with Student's quantile of groups - 1 degrees. The bootstrap's ends are
// expanded for the number of groups (Hesterberg 2015). The design effect is the variance of the
// mean from groups over that from items, never below 1; as few events say little about it, it is
// averaged with what the forms of one content are known to do (a correlation of .65), which weighs
// as ten events.
//
// Every draw of the bootstrap is a hash of (seed, resample, place), so that anybody can make the
// same draws: scripts/rescore.py does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/statistics/interval.h"

namespace kvlingua::stats {

// One entry an item. `first` is judged, `second` is what it is held against, `floor` what both are
// measured from (empty: zero). Successes as 0 and 1 for the score intervals; the bootstrap takes
// any number. `group`, `content`: labels 0, 1, ...; empty: every item by itself.
struct Clustered {
  std::vector<double> first, second, floor;
  std::vector<int64_t> group, content;
  int64_t n() const { return static_cast<int64_t>(first.size()); }
};

struct ClusterOptions {
  int64_t resamples = 20000;
  double confidence = 0.95;
  uint64_t seed = 0;
};

struct ClusterInterval : Interval {
  int64_t n = 0, groups = 0, contents = 0;
  double design_effect = 1;
  // Standard errors of the ends that come from the number of resamples; 0 where the score interval
  // is the end, which is not drawn.
  double low_error = 0, high_error = 0;
};

// mean(first): Wilson on n / design effect. At none and at all the end is at least the exact one
// (the rule of three). n = 0 gives {0, 0, 1}.
ClusterInterval clustered_rate(const Clustered& items, double confidence = 0.95);

// mean(first - second), the wider of both intervals. n = 0 gives [-1, 1].
ClusterInterval clustered_difference(const Clustered& items, const ClusterOptions& options = {});

// The same by the score interval alone, for tables of many differences.
ClusterInterval score_difference(const Clustered& items, double confidence = 0.95);

// Mean of anything by Student's t of errors over groups, groups - 1 degrees;
// infinite for one group.
Interval clustered_mean_t(const std::vector<double>& values, const std::vector<int64_t>& group,
                          double confidence = 0.95);

// mean(first - floor) / mean(second - floor): the share of the gap that is recovered. NaN with the
// interval [-inf, inf] when there is no gap. The score interval is that of the difference first -
// second over the gap, which is taken as known.
ClusterInterval clustered_share(const Clustered& items, const ClusterOptions& options = {});

// The same by the bootstrap alone: for likelihoods and other quantities that are no counts.
ClusterInterval bootstrap_share(const Clustered& items, const ClusterOptions& options = {});

// Tango's interval of a paired difference with `only_first` and `only_second` of n items
// discordant, none of them whole numbers; `quantile` in place of the normal one.
Interval tango_interval(double n, double only_first, double only_second, double quantile);

// Two-sided test of mean(first - second) = 0 by flipping the sign of whole groups: all 2^k ways
// when at most twelve groups differ, else `resamples` hashed ones and (b + 1) / (B + 1).
double sign_flip_p(const Clustered& items, int64_t resamples = 9999, uint64_t seed = 0);

// Variance of mean(values) from groups over that from items; not floored. 1 when nothing varies.
double design_effect(const std::vector<double>& values, const std::vector<int64_t>& group);

// Labels 0, 1, ... of equal strings, in order of first occurrence.
std::vector<int64_t> labels_of(const std::vector<std::string>& names);

// Chance that clustered_share's score interval lies at or above `gate` when the share is `truth`:
// `ceiling` the rate of what it is held against, `gained` the rate of items that succeed under the
// judged condition alone. Over n / effect independent items.
double power_of_share(double gate, double truth, int64_t n, double ceiling, double gained = 0,
                      double effect = 1, double confidence = 0.95);
// The smallest n (a multiple of `step`) with that power; -1 when none up to `most` has it.
int64_t items_for_power(double power, double gate, double truth, double ceiling, double gained,
                        double effect, double confidence, int64_t step = 50, int64_t most = 20000);

}  // namespace kvlingua::stats
