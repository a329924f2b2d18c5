// What the verbs share (verbs.h).
#include <ATen/Parallel.h>

#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/json.h"
#include "kvlingua/model/model_config.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// RunContext::workers: all threads where both models are so small that sharing one matrix product
// among threads takes longer than computing it on one; else 1.
int64_t workers_for(const PairOptions& pair) {
  for (const ModelOptions* options : {&pair.source, &pair.target}) {
    try {
      if (!too_small_to_share(locate_model(*options))) return 1;
    } catch (const Error&) {
      return 1;  // the stage says what is wrong with it
    }
  }
  return at::get_num_threads();
}

}  // namespace

bool too_small_to_share(const std::filesystem::path& model) {
  return ModelConfig::from_directory(model).parameter_count() < 20'000'000;
}

Recipe load_recipe(const CommandLine& command) {
  const std::string named = command.arguments.empty() ? "recipe/nano.yaml" : command.arguments[0];
  Recipe recipe = Recipe::load(find_recipe(named), command.set);
  for (const std::string& note : recipe.notes) log_warning(note);
  return recipe;
}

void check_set(const CommandLine& command) {
  Recipe unused;
  for (const std::string& set : command.set) throw_first(set_option(visit_of(unused), set));
}

RunContext context_of(const CommandLine& command, const Recipe& recipe) {
  RunContext context;
  context.workers = workers_for(recipe.pair);
  context.world = World::from_environment();
  if (!context.world.note.empty()) log_warning(context.world.note);
  context.device_asked = command.device.empty() ? recipe.pair.device : command.device;
  context.device = resolve_device(context.device_asked, context.world.local_rank).str();
  context.seed = command.seed;
  context.paths = run_paths(command.out, recipe.dataset_name(), recipe.run_name());
  context.verbosity = command.verbosity;
  return context;
}

void put_result(const CommandLine& command, const std::string& text, const Json& json) {
  if (!command.json_on_stdout()) write_stdout(printable_lines(text));
  if (!command.json.empty()) write_json(command.json, json);
}

}  // namespace kvlingua::verbs
