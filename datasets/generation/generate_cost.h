// What generation costs (kvlingua/cost/stage_cost.h), and how much text it will find.
#pragma once

#include <filesystem>

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

StageCost generate_cost();
// Tokens whose caches it will store.
double stored_tokens(const PlanInputs& in);

// How many samples generation will find, and how long they are: from at most 256 of them, evenly
// spread. `target` holds the target's tokenizer; empty: lengths are guessed from bytes.
CorpusNumbers count_corpus(const Recipe& recipe, const std::filesystem::path& target);

}  // namespace kvlingua
