// identity as a part of a recipe's run.
#pragma once

#include "stages.h"

namespace kvlingua::verbs {

// Persona signatures of the recipe's target.
StageOutcome identity_stage(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua::verbs
