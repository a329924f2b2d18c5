#include "eval/criteria/fused_gain.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

// rate(judged) - rate(other) over the items that have both.
stats::ClusterInterval gain(const CriterionInput& input, const std::vector<Triple>& items,
                            const std::string& other) {
  return difference_on(input, items,
                       [&](const Triple& item) -> std::optional<std::pair<double, double>> {
                         const Answer* answer = input.answers.find(other, item.gated->item);
                         if (answer == nullptr) return std::nullopt;
                         return std::pair(item.gated->score.exact, answer->score.exact);
                       });
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
  state(result, interval);
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
