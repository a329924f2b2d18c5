// `kvlingua recipe ls | show | check | keys`, answered without torch.
#pragma once

#include "kvlingua/config/command_line.h"

namespace kvlingua {

// Each gives the exit code. Throws Error.
int list_recipes(const CommandLine& command);
int show_recipe(const CommandLine& command);
int check_recipes(const CommandLine& command);
int explain_keys(const CommandLine& command);

}  // namespace kvlingua
