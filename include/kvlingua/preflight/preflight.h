// Preflight: can this recipe run here, and what will it cost? Shapes from the models' config.json,
// rates from a few timed products, each stage's cost from itself (plan.h), and then every stage run
// small (rehearse()).
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/model/model_config.h"
#include "kvlingua/preflight/card.h"
#include "kvlingua/preflight/fit.h"
#include "kvlingua/preflight/plan.h"

namespace kvlingua {

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
  std::optional<Card> card;  // planned for in place of `device`
  DeviceFacts facts;
  ModelCheck source, target;
  CorpusNumbers corpus;
  MachineNumbers machine;
  Plan plan;  // empty when a model's shapes are unknown
  std::filesystem::path out;
  std::vector<std::string> problems;  // why it cannot run; empty: it can
  std::optional<Fit> fit;             // what to change so that it fits; where it does not
  double rehearsal_seconds = 0;       // that running every stage small took; 0: it did not
  std::string rehearsal_how;          // what ran small (say_cut)
  std::string rehearsal_problem;      // why not

  bool can_run() const { return problems.empty(); }
  // Of models whose shapes are known.
  PlanInputs inputs() const { return inputs_of(recipe); }
  // Of this recipe or one that was changed in what it costs. `changed` must outlive the result.
  PlanInputs inputs_of(const Recipe& changed) const;
};

// Throws nothing for what it finds wrong: that is its result. Throws Error for a malformed recipe
// or device name.
// With a card nothing of this machine is measured, and models need not be here when their shapes
// are published.
Preflight run_preflight(const Recipe& recipe, const RunContext& context,
                        const std::optional<Card>& card = std::nullopt);

// Runs the recipe small in a process of its own, so that preflight knows what its stages take here:
// replaces time and memory of the plan's stages by what a small run of this program says. Where
// that cannot be (it cannot run here, or the small run failed) the plan stays as computed, and
// `rehearsal_problem` says why. `keep` names a file when the work follows, and then nothing is
// rehearsed for a short run. What was measured is kept in `keep` (empty: nowhere) and taken from
// there when the recipe, device and threads are the same.
// Throws Error (kTerminated, kInterrupted) when asked to stop meanwhile.
void rehearse(Preflight& preflight, const RunContext& context, const std::filesystem::path& keep);

// Adds a problem for every stage that does not fit, and for a disk that is too small.
void find_misfits(Preflight& preflight);
// Why this recipe cannot run here, with the exit code of the first reason.
Error cannot_run(const Preflight& preflight);

nlohmann::ordered_json to_json(const Preflight& preflight);
std::string to_text(const Preflight& preflight);  // the table

}  // namespace kvlingua
