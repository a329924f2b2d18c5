// One stage of a recipe as a verb runs it; quickstart runs several in a row.
#pragma once

#include <filesystem>
#include <string>

#include "verbs.h"

namespace kvlingua::verbs {

// What a stage gives back: a few lines for people, its JSON, and whether its gate was met.
struct StageOutcome {
  std::string text;
  Json json;
  ExitCode code = ExitCode::kOk;
};
using Stage = StageOutcome (*)(const Recipe&, const RunContext&);

// With context.dry_run each gives the resolved recipe and the plan as text, and does nothing.
StageOutcome generate_stage(const Recipe& recipe, const RunContext& context);
StageOutcome train_stage(const Recipe& recipe, const RunContext& context);
StageOutcome evaluate_stage(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua::verbs
