#include "eval/criteria/stalling.h"

#include "eval/scoring.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

StallingResult judge_stalling(const CriterionInput& input) {
  StallingResult result;
  result.name = "stalling";
  result.threshold = input.threshold;
  const double alpha = (1 - input.confidence);
  result.definition = stall_definition() +
                      " Statistic: share of stalled answers minus the same share under full_text, "
                      "over all families. Interval: Tango's score interval at "
                      "confidence 1 - 2 alpha, the one that two one-sided tests (TOST) at alpha "
                      "use. Pass when its upper end is below the threshold, fail "
                      "when its lower end is above it.";
  const auto items = paired_items(input, {});
  std::vector<bool> gated, full;
  for (const Triple& item : items) {
    gated.push_back(item.gated->score.stall != Stall::kNone);
    full.push_back(item.full_text->score.stall != Stall::kNone);
  }
  result.n = static_cast<int64_t>(items.size());
  result.tost = stats::tost_proportions(stats::PairedCounts::of(gated, full), -input.threshold,
                                        input.threshold, alpha);
  result.statistic = result.tost.difference.estimate;
  result.low = result.tost.difference.low;
  result.high = result.tost.difference.high;
  if (items.empty()) {
    result.notes.push_back("no item was answered under both " + input.gated + " and full_text");
    return result;
  }
  result.notes.push_back(cat("TOST within +-", input.threshold, ": p = ", result.tost.p));
  if (result.high < input.threshold)
    result.verdict = Verdict::kPass;
  else if (result.low > input.threshold)
    result.verdict = Verdict::kFail;
  else
    result.notes.push_back("the interval contains the threshold: more items would decide");
  return result;
}

}  // namespace kvlingua
