#include "eval/criteria/stalling.h"

#include <algorithm>

#include "eval/answers/scoring.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {
double stalled(const Answer& answer) { return answer.score.stall != Stall::kNone; }
}  // namespace

CriterionResult judge_stalling(const CriterionInput& input) {
  CriterionResult result;
  result.name = "stalling";
  result.threshold = input.threshold;
  result.definition =
      stall_definition() +
      " Statistic: share of stalled answers minus the same share under full_text, over all "
      "families "
      "(phase 2a's cases, which are shown and never judged, left out). Non-inferiority: pass when "
      "the upper end of the interval is below the threshold, fail when the lower end is above it. "
      "It shows that the target speaks, not that anything was transferred.";
  const auto items = paired_items(input, {});
  for (const Triple& item : items)
    if (std::find(result.families.begin(), result.families.end(), item.gated->family) ==
        result.families.end())
      result.families.push_back(item.gated->family);
  state(result, difference_on(input, items, [&](const Triple& item) {
          double sum = stalled(*item.gated);
          for (const auto& name : input.replicas)
            if (const Answer* answer = input.answers.find(name, item.gated->item))
              sum += stalled(*answer);
          return std::pair(sum / static_cast<double>(1 + input.replicas.size()),
                           stalled(*item.full_text));
        }));
  if (items.empty()) {
    result.notes.push_back("no item was answered under both " + input.gated + " and full_text");
    return result;
  }
  if (result.high < input.threshold)
    result.verdict = Verdict::kPass;
  else if (result.low > input.threshold)
    result.verdict = Verdict::kFail;
  else
    result.notes.push_back("the interval contains the threshold");
  return result;
}

}  // namespace kvlingua
