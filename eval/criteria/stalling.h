// stalling: does the target still answer at all? Non-inferiority: it may stall a few points more
// often than full_text, and as much less as it likes.
#pragma once

#include "eval/criteria/criterion.h"

namespace kvlingua {

CriterionResult judge_stalling(const CriterionInput& input);

}  // namespace kvlingua
