// Criterion: turns scored answers into a verdict with its interval.
//
// A verdict compares the judged condition with full_text on the same items. pass: the whole
// interval is on the good side of the threshold; fail: the whole interval is on the bad side;
// inconclusive: neither, or nothing to judge. Never a bare point estimate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/answer.h"
#include "eval/statistics/interval.h"

namespace kvlingua {

enum class Verdict { kPass, kFail, kInconclusive };
const char* to_string(Verdict verdict);

struct CriterionResult {
  std::string name;
  Verdict verdict = Verdict::kInconclusive;
  double statistic = 0, low = 0, high = 0;  // of what `definition` says
  double threshold = 0;
  int64_t n = 0;  // distinct items it stands on
  std::string definition;
  std::vector<std::string> notes;  // why inconclusive; what was left out
};

struct CriterionInput {
  const Answers& answers;
  std::string gated;  // the judged condition
  double threshold = 0;
  double confidence = 0.95;
  int64_t resamples = 2000;
  uint64_t seed = 0;
};

// One item under the judged condition and under the two it is compared with.
struct Triple {
  const Answer* gated = nullptr;
  const Answer* full_text = nullptr;
  const Answer* baseline = nullptr;  // may be missing
};
// Items of these families (all when empty) that have both; equal observations once.
std::vector<Triple> paired_items(const CriterionInput& input,
                                 const std::vector<std::string>& families);

// mean(first) / mean(second) over the same items: BCa bootstrap over whole groups, widened to
// Tango's score interval where fewer than ten items are discordant (a bootstrap of no disagreement
// would claim certainty).
stats::Interval retained_share(const std::vector<Triple>& items, bool (*succeeded)(const Answer&),
                               const CriterionInput& input);

// Inconclusive for want of items, of a ceiling or of a number: anything from 0 to 1 is possible
// where there is no interval.
void leave_open(CriterionResult& result, std::string why);
// Statistic, interval and verdict of a retained share; `cannot_show`, when not empty, says why
// these items show nothing either way.
void conclude(CriterionResult& result, const stats::Interval& interval,
              const std::string& cannot_show);

// pass when low >= threshold, fail when high < threshold.
Verdict above(const stats::Interval& interval, double threshold);

}  // namespace kvlingua
