// Preflight: can this recipe run here, and what will it cost? Shapes from the models' config.json,
// rates from a few timed products, arithmetic from config/plan.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kvlingua/cache/device.h"
#include "kvlingua/config/plan.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/model/model_config.h"

namespace kvlingua {

ModelNumbers numbers_of(const ModelConfig& config, int64_t compute_bytes);
// Shapes of models that shipped recipes name, so that a plan can be made before they are
// downloaded. Throws Error (kInput) for another name.
ModelConfig published_config(const std::string& name);

struct ModelCheck {
  std::string name;
  bool present = false;
  std::string directory;  // when present
  std::string problem;    // one line with the `hf download` command when not
  bool known = false;     // `config` holds its shapes: read, or published
  ModelConfig config;
};
ModelCheck check_model(const ModelOptions& options);

// A rate of large matrix products in the compute type and of large copies, measured in about a
// tenth of a second each.
MachineNumbers measure_machine(at::Device device, at::ScalarType dtype,
                               const std::filesystem::path& out);

struct Preflight {
  Recipe recipe;
  at::Device device = at::kCPU;
  DeviceFacts facts;
  ModelCheck source, target;
  CorpusNumbers corpus;
  MachineNumbers machine;
  Plan plan;  // empty when a model's shapes are unknown
  std::filesystem::path out;
  std::vector<std::string> problems;  // why it cannot run; empty: it can
  double rehearsal_seconds = 0;       // that running every stage small took; 0: it did not
  std::string rehearsal_problem;      // why not

  bool can_run() const { return problems.empty(); }
};

// Counts the corpus; given the target's directory, or an empty path when the model is not there.
using CountCorpus =
    std::function<CorpusNumbers(const Recipe&, const std::filesystem::path& target)>;

// Throws nothing for what it finds wrong: that is its result. Throws Error for a malformed recipe
// or device name.
Preflight run_preflight(const Recipe& recipe, const RunContext& context, const CountCorpus& count);

// Adds a problem for every stage that does not fit, and for a disk that is too small.
void find_misfits(Preflight& preflight);

nlohmann::ordered_json to_json(const Preflight& preflight);
std::string to_text(const Preflight& preflight);  // the table

}  // namespace kvlingua
