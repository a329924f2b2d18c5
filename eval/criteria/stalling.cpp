#include "eval/criteria/stalling.h"

#include <algorithm>

#include "eval/scoring.h"
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
  stats::Clustered c;
  std::vector<std::string> groups, contents;
  for (const Triple& item : items) {
    double sum = stalled(*item.gated);
    for (const auto& name : input.replicas)
      if (const Answer* answer = input.answers.find(name, item.gated->item))
        sum += stalled(*answer);
    c.first.push_back(sum / static_cast<double>(1 + input.replicas.size()));
    c.second.push_back(stalled(*item.full_text));
    groups.push_back(group_of(*item.gated));
    contents.push_back(content_of(*item.gated));
  }
  c.group = stats::labels_of(groups);
  c.content = stats::labels_of(contents);
  for (const Triple& item : items)
    if (std::find(result.families.begin(), result.families.end(), item.gated->family) ==
        result.families.end())
      result.families.push_back(item.gated->family);
  const auto interval = stats::clustered_difference(
      c, {.resamples = input.resamples, .confidence = input.confidence, .seed = input.seed});
  result.n = interval.n;
  result.groups = interval.groups;
  result.contents = interval.contents;
  result.design_effect = interval.design_effect;
  result.statistic = interval.estimate;
  result.low = interval.low;
  result.high = interval.high;
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
