// `kvlingua recipe ls | show | check | keys`, answered without torch.
#pragma once

#include <cstdint>
#include <optional>

#include "kvlingua/config/command_line.h"

namespace kvlingua {

struct Recipe;

// The recipe with --seed, where it is given, in the place of every seed that a stage takes from it.
Recipe with_seed(Recipe recipe, std::optional<int64_t> seed);

// Each gives the exit code. Throws Error.
int list_recipes(const CommandLine& command);
int show_recipe(const CommandLine& command);
int check_recipes(const CommandLine& command);
int explain_keys(const CommandLine& command);

}  // namespace kvlingua
