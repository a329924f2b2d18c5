// fused_gain: what a projector that fuses adds to a target that reads the context itself.
//
// Such a target answers from its own cache; being as good as full_text says nothing about transfer.
// It is judged on answering more often than full_text, and its control (wrong_source: the target's
// own cache right, the source's of another item) must fall short of it.
#pragma once

#include "eval/criteria/criterion.h"

namespace kvlingua {

inline constexpr const char* kFusedControl = "wrong_source";

CriterionResult judge_fused_gain(const CriterionInput& input);

}  // namespace kvlingua
