// Agreement of raters over subjects: intraclass correlations and Kendall's coefficient of
// concordance.
//
// Here raters are prompts and subjects are personas: do the personas keep their order, and their
// distances, whatever is asked?
#pragma once

#include <cstdint>
#include <vector>

#include "eval/statistics/interval.h"
#include "eval/statistics/tests.h"

namespace kvlingua::stats {

// table[subject][rater], at least two of each, no gaps. Throws Error (kUsage).
using Ratings = std::vector<std::vector<double>>;

// ICC(2,1): two-way random effects, absolute agreement, single rater (Shrout & Fleiss 1979), with
// McGraw & Wong's (1996) F interval.
Interval icc_two_way(const Ratings& table, double confidence = 0.95);

// The figure the users' scripts print: B the variance (n) of subject means, W the mean variance (n)
// over raters inside a subject, k raters: (B - W) / (B + (k - 1) W).
struct VarianceRatio {
  double between = 0, within = 0, ratio = 0, icc = 0;
};
VarianceRatio variance_ratio(const Ratings& table);

// W with the correction for ties, and its chi-squared test.
TestResult kendall_w(const Ratings& table);

}  // namespace kvlingua::stats
