// The verbs that need torch: each from the command line to a stage and back to a result.
//
// Results go to stdout, everything else to stderr. A verb returns its exit code; whatever it throws
// becomes one line and an exit code in main.cpp.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/config/command_line.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua::verbs {

int preflight(const CommandLine& command);
int inspect(const CommandLine& command);
int generate(const CommandLine& command);
int verify(const CommandLine& command);
int train(const CommandLine& command);
int evaluate(const CommandLine& command);
int quickstart(const CommandLine& command);
int import_from(const CommandLine& command);
int export_to(const CommandLine& command);
int nano_lm(const CommandLine& command);
int sweep(const CommandLine& command);
int identity(const CommandLine& command);
int ask(const CommandLine& command);

// ---- what they share (common.cpp) ----

using Json = nlohmann::ordered_json;

// The recipe that is named, recipe/nano.yaml when none is; its notes are logged.
Recipe load_recipe(const CommandLine& command);
// World, device, paths and flags; chooses the number of CPU threads by the pair's size.
RunContext context_of(const CommandLine& command, const Recipe& recipe);
// On stdout, as text or as JSON, and in the file that --json names.
void put_result(const CommandLine& command, const std::string& text, const Json& json);
[[noreturn]] void not_in_this_version(const std::string& what);

}  // namespace kvlingua::verbs
