#include "eval/criteria/identity.h"

#include <cmath>

#include "eval/statistics/equivalence.h"

namespace kvlingua {

namespace {

bool exact(const Answer& answer) { return answer.score.exact; }

// The items can show a transfer only when reading the text helps: full_text above baseline, whole
// interval.
bool ceiling_above_floor(const std::vector<Triple>& items, double confidence) {
  std::vector<bool> full, base;
  for (const Triple& item : items) {
    if (item.baseline == nullptr) continue;
    full.push_back(item.full_text->score.exact);
    base.push_back(item.baseline->score.exact);
  }
  return full.empty() ||
         stats::paired_difference(stats::PairedCounts::of(full, base), confidence).low > 0;
}

}  // namespace

CriterionResult judge_identity(const CriterionInput& input) {
  CriterionResult result;
  result.name = "identity";
  result.threshold = input.threshold;
  result.definition =
      "Share of identity items answered exactly (every marker of the context that only the source "
      "read occurs in the answer, as whole "
      "words), divided by the same share under full_text on the same items. Question and "
      "completion forms together; items about one "
      "person are resampled together. Pass when the whole interval is at or above the threshold.";
  const auto items = paired_items(input, {"identity"});
  result.n = static_cast<int64_t>(items.size());
  if (items.empty()) {
    conclude(result, {std::nan(""), 0, 1},
             "no identity items were answered under both " + input.gated + " and full_text");
    return result;
  }
  conclude(result, retained_share(items, &exact, input),
           ceiling_above_floor(items, input.confidence)
               ? ""
               : "reading the text itself does not lift the target above baseline here: these "
                 "items cannot show a transfer");
  return result;
}

}  // namespace kvlingua
