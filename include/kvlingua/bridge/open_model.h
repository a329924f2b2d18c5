// A model of a pair as a recipe names it: where it lies, its tokenizer, and itself.
//
// The one place that goes from a name and a revision to a directory, so that every verb takes the
// same model. find_model() reads what is small (config.json, tokenizer.json); open_model() the
// weights too.
#pragma once

#include <filesystem>

#include "kvlingua/config/pair_options.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

// The model's directory: a path as it is (from the working folder or the project's), else a hub
// name at `options.revision` in the local cache. "org/name@revision" wins over the option. Throws
// Error (kInput) with the `hf download` command.
std::filesystem::path locate_model(const ModelOptions& options);

// A model before its weights are read.
struct ModelFiles {
  ModelOptions options;
  std::filesystem::path directory;
  ModelConfig config;
  Tokenizer tokenizer;
  LoadOptions load;  // device, compute type and streaming, resolved

  CausalLM load_weights() const { return CausalLM::load(directory, load); }
};
// Throws Error: kInput, kCorrupt, kDevice (a type that the device has not).
ModelFiles find_model(const ModelOptions& options, at::Device device);

struct OpenModel {
  ModelFiles files;
  CausalLM model;
  const Tokenizer& tokenizer() const { return files.tokenizer; }
};
OpenModel open_model(const ModelOptions& options, at::Device device = at::kCPU);

}  // namespace kvlingua
