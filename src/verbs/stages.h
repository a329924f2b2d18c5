// One stage of a recipe as a verb runs it; quickstart runs several in a row.
#pragma once

#include <filesystem>
#include <string>

#include "kvlingua/model/preflight.h"
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

// How many samples generation will find, and how long they are: from at most 256 of them, evenly
// spread. `target` holds the target's tokenizer; empty: lengths are guessed from bytes.
CorpusNumbers count_corpus(const Recipe& recipe, const std::filesystem::path& target);
// Why this recipe cannot run here, with the exit code of the first reason.
Error cannot_run(const Preflight& preflight);

}  // namespace kvlingua::verbs
