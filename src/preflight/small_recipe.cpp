#include "kvlingua/preflight/small_recipe.h"

#include <algorithm>
#include <cmath>

#include "eval/evaluation_cost.h"
#include "eval/geometry/geometry_cost.h"
#include "kvlingua/base/error.h"
#include "trainers/stages.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

int64_t at_least_one(double value) { return std::max<int64_t>(1, std::llround(value)); }

void cut_data(Recipe& r, const PlanInputs& in) {
  const Recipe& recipe = in.recipe;
  const double length = in.length();
  // Enough rows for the small batch of regression, and for two seconds of prefill.
  const double token = in.source.flops_per_token(length) + in.target.flops_per_token(length);
  const double batch = d(r.train.regression.batch.size) * 1.2 / (1 - recipe.data.validation);
  const double tokens =
      std::max(batch, std::clamp(kSmallSeconds * in.machine.flops / token, 512.0, 4096.0));
  const auto samples = static_cast<int64_t>(std::ceil(tokens / length)) + 8;
  r.data.max_samples = std::min(in.corpus.samples, samples);
  r.data.max_tokens = 0;
  r.data.batch_tokens =
      std::min(recipe.data.batch_tokens, std::max<int64_t>(1024, at_least_one(tokens / 2)));
}

}  // namespace

SmallRecipe cut_small(const PlanInputs& in) {
  SmallRecipe small{.recipe = in.recipe};
  small.rows_of_whole = std::llround(in.span_tokens() * (1 - in.recipe.data.validation));
  for (const StageFacts& stage : stages())
    if (const StageCost cost = cost_of(stage.name); cost.cut) cost.cut(small.recipe, in);
  cut_data(small.recipe, in);
  evaluate_cost().cut(small.recipe, in);
  small.recipe.train.tensorboard = false;
  small.recipe.checkpoint.every = 0;
  return small;
}

double scaled_seconds(const MeasuredStage& measured, const PhaseUnits& planned,
                      const StageCost& cost) {
  const auto find = [&](const std::string& phase) -> const MeasuredPhase* {
    if (cost.similar) return cost.similar(measured, phase);
    const auto own = measured.phases.find(phase);
    return own == measured.phases.end() ? nullptr : &own->second;
  };
  double seconds = 0;
  for (const auto& [phase, units] : planned) {
    if (const MeasuredPhase* found = find(phase); found != nullptr && found->units > 0)
      seconds += found->seconds / found->units * units;
  }
  for (const auto& [phase, took] : measured.phases) {
    const bool of_a_condition = phase.find(' ') != std::string::npos;
    if (!planned.contains(phase) && !of_a_condition) seconds += took.seconds;
  }
  return seconds;
}

namespace {

const MeasuredStage* find_measured(const std::vector<MeasuredStage>& measured,
                                   const std::string& name) {
  const auto found = std::ranges::find(measured, name, &MeasuredStage::name);
  return found == measured.end() ? nullptr : &*found;
}

// Of a recipe whose small run, or that of one much like it, was measured.
double seconds_by(const MeasuredStage& measured, const StageCost& cost, const PhaseUnits& units,
                  const PlanInputs& whole, const PlanInputs& small) {
  MeasuredStage mine = measured;
  const double computed = cost.correct ? cost.correct(mine, whole, small) : 0;
  return computed + scaled_seconds(mine, units, cost);
}

// Sweep and identity are not run small: cells of the grid take what the recipe's own stages take,
// and the models read and write at the pace of the small evaluation.
void adopt_pace(Plan& plan, const PlanInputs& whole, const PlanInputs& small,
                const std::vector<MeasuredStage>& measured) {
  const MeasuredStage* evaluated = find_measured(measured, "evaluate");
  if (evaluated == nullptr) return;
  const double slower = steps_slower(*evaluated, small);
  const auto in_cell = [&](const std::string& name, const StageCost& cost, const PlanInputs& cell) {
    const MeasuredStage* stage = find_measured(measured, name);
    return stage != nullptr ? seconds_by(*stage, cost, planned_units(cell)[name], cell, small)
                            : cost.plan(cell).seconds;
  };
  for (StagePlan& stage : plan.stages) {
    if (stage.name == "sweep") stage.seconds = whole_sweep_plan(whole, slower, in_cell).seconds;
    if (stage.name == "identity") stage.seconds = identity_plan(whole, slower).seconds;
  }
}

std::string of(int64_t part, int64_t whole) { return cat(part, " of ", whole); }

}  // namespace

std::string say_cut(const PlanInputs& whole_inputs, const PlanInputs& small_inputs) {
  const Recipe &whole = whole_inputs.recipe, &small = small_inputs.recipe;
  const RidgeOptions &all = whole.projector.ridge, &few = small.projector.ridge;
  std::string text =
      cat(of(small_inputs.corpus.samples, whole_inputs.corpus.samples), " documents");
  const bool narrow = few.candidate_layers != all.candidate_layers;
  if (std::ranges::count(whole.train.stages, kRidgeStage) > 0)
    text += cat(", ridge", narrow ? cat(" of ", few.candidate_layers, " source layers") : "",
                " (its solution by the machine's rates)");
  for (const std::string& stage : whole.train.stages) {
    const StagePlan a = cost_of(stage).plan(whole_inputs), b = cost_of(stage).plan(small_inputs);
    if (b.batch < a.batch)
      text += cat(", ", stage, " by ", of(b.batch, a.batch), " ", a.unit, " a batch");
  }
  text += cat(", ", of(small.eval.items, whole.eval.items), " items under ",
              small.eval.conditions.size(), " conditions");
  if (whole.eval.latency && !small.eval.latency) text += ", latency by the machine's rates";
  return text + "; sweep and identity by their pace";
}

void adopt(Plan& plan, const PlanInputs& whole, const PlanInputs& small,
           const std::vector<MeasuredStage>& measured) {
  const Plan cut = make_plan(small);
  auto units = planned_units(whole);
  for (const auto& [name, cost] : costs_of(whole.recipe)) {
    const auto named = [&name](const auto& other) { return other.name == name; };
    const auto stage = std::find_if(plan.stages.begin(), plan.stages.end(), named);
    const MeasuredStage* found = find_measured(measured, name);
    const auto part = std::find_if(cut.stages.begin(), cut.stages.end(), named);
    if (stage == plan.stages.end() || found == nullptr || part == cut.stages.end()) continue;
    stage->seconds = seconds_by(*found, cost, units[name], whole, small);
    set_memory(*stage, found->memory + (stage->memory - part->memory), whole.machine);
    stage->rehearsed = "run small";
  }
  adopt_pace(plan, whole, small, measured);
  total_up(plan, whole.machine);
}

}  // namespace kvlingua
