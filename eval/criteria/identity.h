// identity and needle: does the target say what only the source read?
#pragma once

#include "eval/criteria/criterion.h"

namespace kvlingua {

CriterionResult judge_identity(const CriterionInput& input);
CriterionResult judge_needle(const CriterionInput& input);

}  // namespace kvlingua
