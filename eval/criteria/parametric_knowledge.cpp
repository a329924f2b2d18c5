#include "eval/criteria/parametric_knowledge.h"

#include <cmath>

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {
bool injected(const Answer& answer) { return answer.score.knowledge == Knowledge::kInjected; }
}  // namespace

bool known_by_heart(const Answers& answers, const Answer& answer) {
  const Answer* bare = answers.find("baseline", answer.item);
  return bare != nullptr && bare->score.knowledge == Knowledge::kParametric;
}

double memorisation_ratio(const std::vector<const Answer*>& answers) {
  double by_heart = 0, from_context = 0;
  for (const Answer* answer : answers) {
    by_heart += answer->score.knowledge == Knowledge::kParametric;
    from_context += answer->score.knowledge == Knowledge::kInjected;
  }
  return by_heart + from_context > 0 ? by_heart / (by_heart + from_context) : std::nan("");
}

CriterionResult judge_parametric_knowledge(const CriterionInput& input) {
  CriterionResult result;
  result.name = "parametric_knowledge";
  result.threshold = input.threshold;
  result.definition =
      "On counterfactual items whose bare target gives the known fact (the others do not count): "
      "share of answers that are injected "
      "(every marker of the context, nothing known by heart), divided by the same share under "
      "full_text on the same items. parametric: "
      "the known fact and not the markers; both; other: neither. Memorisation ratio: parametric / "
      "(parametric + injected). Items about "
      "one fact are resampled together. Pass when the whole interval is at or above the threshold.";
  const auto all = paired_items(input, {"counterfact", "counterfact_file"});
  std::vector<Triple> items;
  for (const Triple& item : all)
    if (known_by_heart(input.answers, *item.gated)) items.push_back(item);
  result.n = static_cast<int64_t>(items.size());
  if (items.size() < all.size())
    result.notes.push_back(cat(all.size() - items.size(), " of ", all.size(),
                               " items left out: the bare target does not give the known fact"));
  if (items.empty()) {
    conclude(result, {std::nan(""), 0, 1},
             "no counterfactual item is left: nothing was shown to be known by heart");
    return result;
  }
  const stats::Interval interval = retained_share(items, &injected, input);
  conclude(result, interval,
           std::isnan(interval.estimate)
               ? "reading the text itself never injects the fact: these items cannot show a "
                 "transfer"
               : "");
  return result;
}

}  // namespace kvlingua
