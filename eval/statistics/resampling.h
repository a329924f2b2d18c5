// The bootstrap: bias-corrected and accelerated (BCa) intervals of any statistic of items, seeded.
//
// Items that belong together (one template, one document) are resampled whole when `groups` says
// so: the cluster bootstrap. Paired by construction: an index stands for an item with all its
// conditions. Formulas: Efron & Tibshirani 1993, ch. 14, with the conventions of
// scipy.stats.bootstrap(method="BCa").
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "eval/statistics/interval.h"

namespace kvlingua::stats {

struct BootstrapOptions {
  int64_t resamples = 2000;
  double confidence = 0.95;
  uint64_t seed = 0;
  std::vector<int64_t> groups;  // one label an item; empty: every item is its own group
};

// Statistic of the items named by index (an index may occur several times).
using IndexStatistic = std::function<double(const std::vector<int64_t>& indices)>;

// A statistic that is the same for every resample gives a zero-width interval at the estimate. NaN
// replicates (a ratio whose denominator vanished) are left out; when more than half are NaN the
// interval is infinite. n >= 1.
Interval bootstrap(int64_t n, const IndexStatistic& statistic,
                   const BootstrapOptions& options = {});

// mean(a - b) and mean(a) / mean(b), paired by item.
Interval bootstrap_difference(const std::vector<double>& a, const std::vector<double>& b,
                              const BootstrapOptions& options = {});
Interval bootstrap_ratio(const std::vector<double>& a, const std::vector<double>& b,
                         const BootstrapOptions& options = {});

// The BCa interval from given replicates and leave-one-out values.
Interval bca_interval(double estimate, std::vector<double> replicates,
                      const std::vector<double>& jackknife, double confidence);

// The same with the standard error that each end has because replicates are drawn: that of an order
// statistic, read off the replicates themselves.
struct BcaInterval : Interval {
  double low_error = 0, high_error = 0;
};
BcaInterval bca_with_errors(double estimate, std::vector<double> replicates,
                            const std::vector<double>& jackknife, double confidence);

// Linear interpolation between order statistics (numpy's default); `sorted` ascending, not empty, q
// in [0, 1].
double quantile(const std::vector<double>& sorted, double q);

}  // namespace kvlingua::stats
