#include "geometry_run.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>

#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/paths.h"

namespace kvlingua::verbs {

namespace {

bool names_recipe(const std::string& word) {
  if (word.ends_with(".yaml") || word.ends_with(".yml") || word.ends_with(".json")) return true;
  for (const auto& shipped : shipped_recipes())
    if (shipped.stem() == word) return true;
  return false;
}

std::vector<Scale> pair_of(const Recipe& recipe) {
  std::vector<Scale> models;
  for (const std::string& name : {recipe.pair.source.name, recipe.pair.target.name})
    if (!name.empty() && (models.empty() || models[0].model != name))
      models.push_back({"custom", name, false, 0});
  return models;
}

// One model named by itself is "custom", as in the users' files; of several each has its name.
void name_scales(std::vector<Scale>& models) {
  if (models.size() < 2) return;
  for (Scale& scale : models)
    if (scale.key == "custom") scale.key = model_id(scale.model, scale.quantize);
  for (size_t i = 0; i < models.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (models[k].key == models[i].key) models[i].key += cat("-", i + 1);
}

}  // namespace

GeometryRun geometry_run(const CommandLine& command) {
  GeometryRun run;
  std::vector<std::string> named = command.models;
  for (const std::string& word : command.arguments) {
    if (!names_recipe(word)) {
      named.push_back(word);
      continue;
    }
    if (run.recipe)
      throw Error({.code = ExitCode::kUsage,
                   .what = "two recipes",
                   .got = printable(word, 80),
                   .expected = "one recipe, or models"});
    run.recipe = Recipe::load(find_recipe(word), command.set);
  }
  for (const std::string& name : named) run.models.push_back({"custom", name, command.quantize, 0});
  for (const std::string& key : command.scales) {
    run.models.push_back(find_scale(key));
    run.models.back().quantize = run.models.back().quantize || command.quantize;
  }
  if (command.all_scales)
    run.models.insert(run.models.end(), known_scales().begin(), known_scales().end());
  if (run.models.empty() && run.recipe) run.models = pair_of(*run.recipe);
  name_scales(run.models);
  run.device = !command.device.empty() ? command.device
               : run.recipe            ? run.recipe->pair.device
                                       : "auto";
  if (!command.dtype.empty()) run.dtype = command.dtype;
  run.layer_streaming = command.layer_streaming;
  run.resume = !command.restart;
  run.input_only = command.input_only;
  run.runs = command.runs;
  run.verbosity = command.verbosity;
  run.results =
      (command.out.empty() ? project_root() : std::filesystem::path(command.out)) / "results";
  return run;
}

GeometryRun geometry_run(const Recipe& recipe, const RunContext& context) {
  GeometryRun run;
  run.recipe = recipe;
  run.models = pair_of(recipe);
  name_scales(run.models);
  run.device = context.device;
  run.resume = context.resume;
  run.verbosity = context.verbosity;
  run.results = context.paths.out / "results";
  return run;
}

OpenedModel open_model(const GeometryRun& run, const Scale& scale) {
  if (scale.quantize)
    throw Error({.code = ExitCode::kUsage,
                 .where = "--quantize",
                 .what = "4-bit weights cannot be read yet",
                 .got = scale.model,
                 .remedy = "leave --quantize away; --layer-streaming measures models larger than "
                           "the device"});
  const std::filesystem::path directory = locate_model({.name = scale.model});
  LoadOptions load;
  load.device = resolve_device(run.device);
  load.dtype = resolve_dtype(run.dtype, load.device);
  load.layer_streaming = run.layer_streaming;
  // Small models lose more to waiting for threads than they gain.
  if (std::getenv("OMP_NUM_THREADS") == nullptr &&
      ModelConfig::from_directory(directory).parameter_count() < 20'000'000)
    at::set_num_threads(1);
  return {directory, CausalLM::load(directory, load), Tokenizer::from_directory(directory)};
}

std::string failure_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kTerminated || error.code() == ExitCode::kInterrupted) throw;
    return error.what();
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    return "torch: " + printable(text.substr(0, text.find('\n')), 300);
  }
  return {};
}

}  // namespace kvlingua::verbs
