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
  for (const ModelOptions* model : {&recipe.pair.source, &recipe.pair.target})
    if (!model->name.empty() && (models.empty() || models[0].model != model->name))
      models.push_back({"custom", model->name, model->weights == "nf4", 0});
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

GeometryRun geometry_run(const CommandLine& command, const GeometryOptions& options,
                         const std::vector<Scale>& scales) {
  GeometryRun run;
  std::vector<std::string> named = options.models;
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
  for (const std::string& name : named) run.models.push_back({"custom", name, options.quantize, 0});
  run.models.insert(run.models.end(), scales.begin(), scales.end());
  if (run.models.empty() && run.recipe) run.models = pair_of(*run.recipe);
  name_scales(run.models);
  run.device = !command.device.empty() ? command.device
               : run.recipe            ? run.recipe->pair.device
                                       : "auto";
  if (!options.dtype.empty()) run.dtype = options.dtype;
  run.layer_streaming = options.layer_streaming;
  run.resume = !options.options.restart;
  run.input_only = options.input_only;
  run.runs = options.runs;
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

namespace {

// NF4 where --quantize or the scale asks for it; else as the recipe says for a model of its pair.
WeightOptions weights_of(const GeometryRun& run, const Scale& scale) {
  if (run.recipe) {
    for (const ModelOptions* model : {&run.recipe->pair.source, &run.recipe->pair.target})
      if (model->name == scale.model && (!scale.quantize || model->weights == "nf4"))
        return weight_options(model->weights, model->double_quantization);
  }
  return weight_options(scale.quantize ? "nf4" : "auto");
}

}  // namespace

OpenedModel open_model(const GeometryRun& run, const Scale& scale) {
  const std::filesystem::path directory = locate_model({.name = scale.model});
  LoadOptions load;
  load.device = resolve_device(run.device);
  load.dtype = resolve_dtype(run.dtype, load.device);
  load.layer_streaming = run.layer_streaming;
  load.weights = weights_of(run, scale);
  if (std::getenv("OMP_NUM_THREADS") == nullptr && too_small_to_share(directory))
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
