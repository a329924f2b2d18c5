// parametric_knowledge: when the context contradicts what the target knows, which of the two does
// it say?
#pragma once

#include "eval/criteria/criterion.h"

namespace kvlingua {

// Items count only when the bare target (baseline) is shown to know the fact.
bool known_by_heart(const Answers& answers, const Answer& answer);

CriterionResult judge_parametric_knowledge(const CriterionInput& input);

// parametric / (parametric + injected), as Longpre et al. 2021; NaN when neither occurs.
double memorisation_ratio(const std::vector<const Answer*>& answers);

}  // namespace kvlingua
