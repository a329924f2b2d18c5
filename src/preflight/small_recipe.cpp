#include "kvlingua/preflight/small_recipe.h"

#include <algorithm>
#include <cmath>

#include "eval/evaluation_cost.h"
#include "trainers/stages.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

int64_t at_least_one(double value) { return std::max<int64_t>(1, std::llround(value)); }

void cut_data(Recipe& r, const PlanInputs& in) {
  const Recipe& recipe = in.recipe;
  const double length = in.length();
  // Enough rows for a batch of regression, for a few batches of prefill or for two seconds of it.
  const double token = in.source.flops_per_token(length) + in.target.flops_per_token(length);
  const double batch = d(recipe.train.regression.batch.size) * 1.2 / (1 - recipe.data.validation);
  const double tokens =
      std::max({1024.0, batch, std::min(4096.0, kSmallSeconds * in.machine.flops / token)});
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
  cut_data(small.recipe, in);
  for (const StageFacts& stage : stages())
    if (const StageCost cost = cost_of(stage.name); cost.cut) cost.cut(small.recipe, in);
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

void adopt(Plan& plan, const PlanInputs& whole, const PlanInputs& small,
           const std::vector<MeasuredStage>& measured) {
  const Plan cut = make_plan(small);
  auto units = planned_units(whole);
  for (const auto& [name, cost] : costs_of(whole.recipe)) {
    const auto named = [&name](const auto& other) { return other.name == name; };
    const auto stage = std::find_if(plan.stages.begin(), plan.stages.end(), named);
    const auto found = std::find_if(measured.begin(), measured.end(), named);
    const auto part = std::find_if(cut.stages.begin(), cut.stages.end(), named);
    if (stage == plan.stages.end() || found == measured.end() || part == cut.stages.end()) continue;
    MeasuredStage mine = *found;
    const double computed = cost.correct ? cost.correct(mine, whole, small) : 0;
    stage->seconds = computed + scaled_seconds(mine, units[name], cost);
    set_memory(*stage, mine.memory + (stage->memory - part->memory), whole.machine);
    stage->rehearsed = "run small";
  }
  total_up(plan, whole.machine);
}

}  // namespace kvlingua
