#include "eval/criteria/fused_gain.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

// rate(judged) - rate(other) over the items that have both.
stats::ClusterInterval gain(const CriterionInput& input, const std::vector<Triple>& items,
                            const std::string& other) {
  stats::Clustered c;
  std::vector<std::string> groups, contents;
  for (const Triple& item : items) {
    const Answer* answer = input.answers.find(other, item.gated->item);
    if (answer == nullptr) continue;
    c.first.push_back(item.gated->score.exact);
    c.second.push_back(answer->score.exact);
    groups.push_back(group_of(*item.gated));
    contents.push_back(content_of(*item.gated));
  }
  c.group = stats::labels_of(groups);
  c.content = stats::labels_of(contents);
  return stats::clustered_difference(
      c, {.resamples = input.resamples, .confidence = input.confidence, .seed = input.seed});
}

}  // namespace

CriterionResult judge_fused_gain(const CriterionInput& input) {
  CriterionResult result;
  result.name = "fused_gain";
  result.threshold = input.threshold;
  result.definition =
      "Share of exact answers minus the same share under full_text, over all families: the target "
      "reads the context itself, so only what the source adds is judged. Pass when the whole "
      "interval is above the threshold and the judged condition also answers more often than "
      "wrong_source (the target's own cache right, the source's of another item).";
  const auto items = paired_items(input, {});
  const auto interval = gain(input, items, "full_text");
  result.n = interval.n;
  result.groups = interval.groups;
  result.contents = interval.contents;
  result.design_effect = interval.design_effect;
  result.statistic = interval.estimate;
  result.low = interval.low;
  result.high = interval.high;
  if (items.empty()) {
    leave_open(result, "no item was answered under both " + input.gated + " and full_text");
    return result;
  }
  const auto over_control = gain(input, items, kFusedControl);
  const bool judged = over_control.n > 0;
  if (judged)
    result.controls.push_back({kFusedControl, over_control.estimate, over_control.low,
                               over_control.high, over_control.n, over_control.low > 0});
  if (result.high <= input.threshold)
    result.verdict = Verdict::kFail;
  else if (result.low > input.threshold)
    result.verdict = Verdict::kPass;
  else
    leave_open(result, "no gain over full_text is shown");
  return result;
}

}  // namespace kvlingua
