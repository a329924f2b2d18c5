#include "kvlingua/preflight/plan.h"

#include "datasets/generation/generate_cost.h"
#include "eval/evaluation_cost.h"
#include "eval/geometry/geometry_cost.h"
#include "eval/sweep/grid.h"
#include "trainers/engine/training_cost.h"
#include "trainers/stages.h"

namespace kvlingua {

std::vector<std::pair<std::string, StageCost>> costs_of(const Recipe& recipe) {
  std::vector<std::pair<std::string, StageCost>> costs{{"generate", generate_cost()}};
  for (const std::string& stage : recipe.train.stages) costs.emplace_back(stage, cost_of(stage));
  costs.emplace_back("evaluate", evaluate_cost());
  return costs;
}

namespace {

// Cells are whole runs, one after the other, of the pair's models either way round; of others the
// shapes are not known here.
void add_grid(const PlanInputs& in, const StageSeconds& seconds, StagePlan& sweep) {
  for (const GridPair& pair : grid_pairs(in.recipe.sweep)) {
    const auto numbers = [&](const std::string& name) -> const ModelNumbers* {
      if (name == in.recipe.pair.source.name) return &in.source;
      return name == in.recipe.pair.target.name ? &in.target : nullptr;
    };
    const ModelNumbers *source = numbers(pair.source), *target = numbers(pair.target);
    if (source == nullptr || target == nullptr) continue;
    const Recipe recipe = cell_recipe(in.recipe, pair);
    PlanInputs cell{recipe, *source, *target, in.corpus, in.machine};
    if (recipe.data.kind == "synthetic")
      cell.corpus.samples = std::min(cell.corpus.samples, recipe.data.synthetic.documents);
    for (const auto& [name, cost] : costs_of(recipe)) {
      const StagePlan stage = cost.plan(cell);
      sweep.seconds += seconds ? seconds(name, cost, cell) : stage.seconds;
      sweep.disk += stage.disk;
      if (stage.memory <= sweep.memory) continue;
      sweep.batch_key.clear();  // smaller batches of prompts do not help
      set_memory(sweep, stage.memory, in.machine);
    }
  }
}

}  // namespace

StagePlan whole_sweep_plan(const PlanInputs& in, double slower, const StageSeconds& seconds) {
  StagePlan sweep = sweep_plan(in, slower);
  add_grid(in, seconds, sweep);
  return sweep;
}

Plan make_plan(const PlanInputs& in) {
  Plan plan;
  plan.bytes_per_token = in.pair_bytes_per_token();
  plan.dataset_tokens = stored_tokens(in);
  plan.dataset_bytes = plan.dataset_tokens * plan.bytes_per_token;
  plan.projector_parameters = static_cast<int64_t>(in.projector_parameters());
  for (const auto& [name, cost] : costs_of(in.recipe)) plan.stages.push_back(cost.plan(in));
  plan.stages.push_back(whole_sweep_plan(in));
  plan.stages.push_back(identity_plan(in));
  total_up(plan, in.machine);
  return plan;
}

std::map<std::string, PhaseUnits> planned_units(const PlanInputs& in) {
  std::map<std::string, PhaseUnits> stages;
  for (const auto& [name, cost] : costs_of(in.recipe)) stages[name] = cost.units(in);
  // The first stage reads what all of them validate on.
  const std::string& first = in.recipe.train.stages.front();
  if (find_stage(first)->from == LearnsFrom::kPairs) stages[first]["held_out"] = held_out_rows(in);
  return stages;
}

void total_up(Plan& plan, const MachineNumbers& machine) {
  plan.fits_memory = true;
  plan.seconds = plan.disk = 0;
  for (const StagePlan& stage : plan.stages) {
    plan.fits_memory = plan.fits_memory && stage.fits;
    plan.seconds += stage.seconds;
    plan.disk += stage.disk;
  }
  plan.fits_disk = machine.disk_free < 0 || plan.disk <= machine.disk_free;
}

}  // namespace kvlingua
