// sweep as a part of a recipe's run.
#pragma once

#include "stages.h"

namespace kvlingua::verbs {

// Cognitive modes of the recipe's models (its pair unless sweep.models names some).
StageOutcome sweep_stage(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua::verbs
