// What sweep and identity share: which models are meant, how they are loaded, where results go.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/sweep/scales.h"
#include "geometry_options.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/tokenizer.h"
#include "verbs.h"

namespace kvlingua::verbs {

struct GeometryRun {
  std::optional<Recipe> recipe;  // when one was named
  std::vector<Scale> models;
  std::string device = "auto", dtype = "auto";
  bool layer_streaming = false, resume = true, input_only = false;
  int64_t runs = 1;
  int verbosity = 0;
  std::filesystem::path results;  // the folder results/
};

// Models named by themselves, by --model and as `scales`; or a recipe's pair.
GeometryRun geometry_run(const CommandLine& command, const GeometryOptions& options,
                         const std::vector<Scale>& scales = {});
// The run that a recipe's part in quickstart means.
GeometryRun geometry_run(const Recipe& recipe, const RunContext& context);

struct OpenedModel {
  std::filesystem::path directory;
  CausalLM model;
  Tokenizer tokenizer;
};
// Throws Error as resolve_model, Tokenizer and CausalLM do.
OpenedModel open_model(const GeometryRun& run, const Scale& scale);

// Runs `work`; gives the reason when it failed (Error or torch's), and lets a stop through.
std::string failure_of(const std::function<void()>& work);

}  // namespace kvlingua::verbs
