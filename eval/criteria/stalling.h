// stalling: does the target still answer at all?
#pragma once

#include "eval/criteria/criterion.h"
#include "eval/statistics/equivalence.h"

namespace kvlingua {

struct StallingResult : CriterionResult {
  stats::Tost tost;  // stalled(gated) - stalled(full_text) within +-threshold
};
StallingResult judge_stalling(const CriterionInput& input);

}  // namespace kvlingua
