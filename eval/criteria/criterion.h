// Criterion: turns scored answers into a verdict with its interval.
//
// A verdict compares the judged condition with full_text and with baseline on the same items: the
// share of the gap between them that is recovered, so that items which are answered anyway count
// for nothing. pass: the whole interval is on the good side of the threshold; fail: the whole
// interval is on the bad side; inconclusive: neither, or nothing to judge, or the gate lies within
// what the drawing of the bootstrap alone moves. Never a bare point estimate. Controls are judged
// by the very same criterion, and what they pass measures nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/statistics/clustered.h"

namespace kvlingua {

enum class Verdict { kPass, kFail, kInconclusive, kNotApplicable };
const char* to_string(Verdict verdict);

// A control, judged as the judged condition is.
struct ControlShare {
  std::string name;
  double statistic = 0, low = 0, high = 0;
  int64_t n = 0;
  bool below = false;  // the whole interval lies below the gate
};

struct CriterionResult {
  std::string name;
  Verdict verdict = Verdict::kInconclusive;
  double statistic = 0, low = 0, high = 0;  // of what `definition` says
  double threshold = 0;
  int64_t n = 0;  // distinct items it stands on
  std::string definition;
  std::vector<std::string> notes;  // why inconclusive; what was left out

  std::vector<std::string> families;  // that it speaks of
  int64_t groups = 0, contents = 0;
  double design_effect = 1;
  double floor = 0, ceiling = 0;         // rates under baseline and full_text
  double gained = 0;                     // rate of items right under the judged condition alone
  double low_error = 0, high_error = 0;  // of the ends, from the number of resamples
  bool within_monte_carlo = false;       // the gate lies within three of them
  std::vector<ControlShare> controls;
  std::vector<double> by_seed;  // the statistic of each training seed, when there are several
  double seeds_half_width = 0;  // that they add: Student's t over training seeds
};

struct CriterionInput {
  const Answers& answers;
  std::string gated;  // the judged condition
  double threshold = 0;
  double confidence = 0.95;
  int64_t resamples = 20000;
  uint64_t seed = 0;
  std::vector<std::string> replicas = {};  // the same condition by other training seeds
  std::vector<std::string> controls = {};  // judged by the same criterion
};

// One item under the judged condition and under the two it is compared with.
struct Triple {
  const Answer* gated = nullptr;
  const Answer* full_text = nullptr;
  const Answer* baseline = nullptr;  // may be missing
};
// Items of these families (all but "cases" when empty) that have both; equal observations once.
std::vector<Triple> paired_items(const CriterionInput& input,
                                 const std::vector<std::string>& families);

// The unit of a verdict, and what its forms have in common.
std::string group_of(const Answer& answer);
std::string content_of(const Answer& answer);

// What a criterion of shares asks.
struct ShareQuestion {
  std::string name;
  std::vector<std::string> families;
  bool (*succeeded)(const Answer&) = nullptr;
  std::function<bool(const Triple&)> counts;  // items that count; empty: all
  std::string definition;
  std::string nothing;  // said when no item counts
};
CriterionResult judge_share(const CriterionInput& input, const ShareQuestion& question);

// Inconclusive for want of items, of a ceiling or of a number: anything from 0 to 1 is possible
// where there is no interval.
void leave_open(CriterionResult& result, std::string why);
// Statistic, interval and verdict of a share; `cannot_show`, when not empty, says why these items
// show nothing either way.
void conclude(CriterionResult& result, const stats::ClusterInterval& interval,
              const std::string& cannot_show);

// The mean difference of two values, over the items for which `values` knows both.
stats::ClusterInterval difference_on(
    const CriterionInput& input, const std::vector<Triple>& items,
    const std::function<std::optional<std::pair<double, double>>(const Triple&)>& values);
// Statistic, interval and what they stand on, as the interval says them; no verdict.
void state(CriterionResult& result, const stats::ClusterInterval& interval);

// pass when low >= threshold, fail when high < threshold.
Verdict above(const stats::Interval& interval, double threshold);

// Student's half width of a mean over training seeds; 0 for one seed.
double half_width_over_seeds(const std::vector<double>& by_seed, double confidence);

}  // namespace kvlingua
