// `kvlingua recipe ls | show | check | keys`, answered without torch.
#pragma once

#include "kvlingua/config/command_line.h"

namespace kvlingua {

// The exit code. Throws Error.
int run_recipe_verb(const CommandLine& command);

}  // namespace kvlingua
