// Plan: what a recipe's stages cost together. Each stage states its own
// (kvlingua/cost/stage_cost.h); here it is added up.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

struct Plan {
  double bytes_per_token = 0;  // stored, both models
  double dataset_tokens = 0, dataset_bytes = 0;
  int64_t projector_parameters = 0;
  std::vector<StagePlan> stages;
  bool fits_memory = true, fits_disk = true;
  double seconds = 0, disk = 0;
};

// The stages of a recipe by name, in order: generation, those of training, evaluation.
std::vector<std::pair<std::string, StageCost>> costs_of(const Recipe& recipe);
Plan make_plan(const PlanInputs& in);
std::map<std::string, PhaseUnits> planned_units(const PlanInputs& in);
// Cognitive modes and the grid. Seconds of a cell's stages: as computed, or as `seconds` has them.
using StageSeconds =
    std::function<double(const std::string& name, const StageCost& cost, const PlanInputs& cell)>;
StagePlan whole_sweep_plan(const PlanInputs& in, double slower = 1,
                           const StageSeconds& seconds = {});
// Sums and verdicts over the stages.
void total_up(Plan& plan, const MachineNumbers& machine);

}  // namespace kvlingua
