// One feature compared between groups of prompts: everything a geometry report prints of it, raw
// and with length taken out.
//
// A group's observations are distinct prompts. Length is the number of cached tokens; its effect is
// a parabola, since norms and ranks bend with length and a line would leave the bend to whichever
// group is longer, and comes from variation inside groups alone (analysis of covariance), so that a
// difference between groups cannot explain itself away. Bootstraps resample prompts inside their
// group, the parabola with them; intervals are BCa, expanded for the number of prompts (percentile
// intervals of fifteen prompts cover .90 to .93 where they say .95). Where the two groups' lengths
// do not overlap any adjustment is an extrapolation: AdjustedEffect::overlap says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/statistics/interval.h"
#include "eval/statistics/normality.h"
#include "eval/statistics/tests.h"

namespace kvlingua::stats {

struct Moments {
  int64_t n = 0;
  double mean = 0, deviation = 0;  // n - 1; 0 for one value
  double median = 0, low = 0, high = 0;
};
Moments moments(std::vector<double> values);

struct ComparisonOptions {
  int64_t draws = 10000;
  double confidence = 0.95;
  uint64_t seed = 0;
};

struct Comparison {
  Moments a, b;
  Normality normal_a, normal_b;
  WelchResult welch;
  TestResult mann_whitney;
  Interval d;               // Cohen's, pooled deviation, positive when `a` is higher
  double g = 0;             // d (1 - 3 / (4 df - 1))
  Interval difference;      // of the means
  double difference_p = 1;  // twice the smaller tail share of the draws, at least 1 / draws
  // The larger of Welch's and Mann-Whitney's p: tests no one hypothesis, errs on the safe side.
  double conservative_p = 1;
};
// Two values at least in each. Throws Error (kUsage).
Comparison compare(const std::vector<double>& a, const std::vector<double>& b,
                   const ComparisonOptions& options = {});
// negligible below .2, small below .5, medium below .8, large
const char* effect_label(double d);

// Values of one feature in one group, and each one's length.
struct LengthGroup {
  std::vector<double> values;
  std::vector<double> lengths;
};
// What length does to a feature: slope (x - centre) + bend (x - centre)^2.
struct LengthCurve {
  double centre = 0, slope = 0, bend = 0;
  double at(double length) const { return (slope + bend * (length - centre)) * (length - centre); }
};
// Least squares inside groups. Both are 0 where lengths do not vary inside any group, the bend
// where two lengths are all there are.
LengthCurve length_curve(const std::vector<LengthGroup>& groups);

struct AdjustedEffect {
  Interval d;           // of the values less the curve at their lengths
  LengthCurve curve;    // pooled over all groups, from variation inside them
  double p = 1;         // of the difference in the analysis of covariance, Student's t
  double length_d = 0;  // Cohen's d of the lengths themselves: what length alone would show
  // The smaller number of one group's prompts inside the other's range of lengths.
  int64_t overlap = 0;
};
// Groups `first` and `second`; the curve comes from all groups. Throws Error (kUsage).
AdjustedEffect adjusted_effect(const std::vector<LengthGroup>& groups, size_t first, size_t second,
                               const ComparisonOptions& options = {});

// Two independent samples, two-sided, normal approximation.
double power_two_samples(double d, int64_t n_a, int64_t n_b, double alpha = 0.05);

// Three values of a verdict: an interval wholly beyond the threshold on one side, wholly inside it,
// or neither.
enum class Shown { kYes, kNo, kUndecided };
Shown beyond(const Interval& interval, double threshold);
const char* to_string(Shown shown);

}  // namespace kvlingua::stats
