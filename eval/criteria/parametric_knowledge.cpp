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
  return judge_share(
      input,
      {.name = "parametric_knowledge",
       .families = {"counterfact", "counterfact_file"},
       .succeeded = &injected,
       .counts = [&](const Triple& item) { return known_by_heart(input.answers, *item.gated); },
       .definition =
           "On counterfactual items whose bare target gives the known fact (the others do not "
           "count): share of answers that are injected (every marker of the context, nothing known "
           "by heart), divided by the same share under full_text on the same items; under baseline "
           "it is 0 by that choice. parametric: the known fact and not the markers; both; other: "
           "neither. Memorisation ratio: parametric / (parametric + injected). Items about one "
           "fact are one unit. Pass when the whole interval is at or above the threshold.",
       .nothing = "no counterfactual item is left: nothing was shown to be known by heart"});
}

}  // namespace kvlingua
