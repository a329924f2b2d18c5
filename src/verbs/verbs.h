// What the actions of verbs share (list.h has the verbs).
//
// Results go to stdout, everything else to stderr. A verb returns its exit code; whatever it throws
// becomes one line and an exit code in run_verb.cpp.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/config/command_line.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua::verbs {

using Json = nlohmann::ordered_json;

// The recipe that is named, recipe/nano.yaml when none is; its notes are logged.
Recipe load_recipe(const CommandLine& command);
// For verbs that read no recipe: a --set that no recipe knows is refused all the same.
void check_set(const CommandLine& command);
// Whether threads that share one matrix product of this model take longer than one alone. Throws
// Error as ModelConfig::from_directory.
bool too_small_to_share(const std::filesystem::path& model);
// World, device, paths and workers. What the verb's own options say is added by the verb
// (RunOptions::apply).
RunContext context_of(const CommandLine& command, const Recipe& recipe);
// On stdout, as text or as JSON, and in the file that --json names.
void put_result(const CommandLine& command, const std::string& text, const Json& json);

}  // namespace kvlingua::verbs
