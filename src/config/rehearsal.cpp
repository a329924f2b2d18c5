#include "kvlingua/config/rehearsal.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

constexpr double kSeconds = 2;  // that a stage's small run should take, about

bool projected(const std::string& condition) {
  constexpr std::array names = {"identity", "ridge_aligned", "ridge", "mlp", "distilled", "fused"};
  return std::find(names.begin(), names.end(), condition) != names.end();
}

// What a small run measured in place of a phase that it left out.
const MeasuredPhase* similar(const MeasuredStage& measured, const std::string& phase) {
  const size_t space = phase.find(' ');
  const std::string kind = phase.substr(0, space);
  const std::string condition = space == std::string::npos ? "" : phase.substr(space + 1);
  const auto find = [&](const std::string& name) {
    const auto found = measured.phases.find(name);
    return found == measured.phases.end() || found->second.units <= 0 ? nullptr : &found->second;
  };
  if (kind == "decode" && projected(condition)) return find("decode full_text");
  if (const MeasuredPhase* own = find(phase)) return own;
  if (condition.empty()) return nullptr;
  if (condition == "wrong_text" || condition == "raw_text") return find(kind + " full_text");
  if (projected(condition)) {
    for (const char* other : {"distilled", "mlp", "ridge", "fused"})
      if (const MeasuredPhase* found = find(kind + " " + other)) return found;
  }
  return find(kind + " same_cache");
}

int64_t at_least_one(double value) { return std::max<int64_t>(1, std::llround(value)); }

}  // namespace

SmallRecipe cut_small(const Recipe& recipe, const ModelNumbers& source, const ModelNumbers& target,
                      const CorpusNumbers& corpus, const MachineNumbers& machine) {
  SmallRecipe small{.recipe = recipe};
  Recipe& r = small.recipe;
  const double length = std::max(1.0, corpus.tokens_per_sample);
  small.rows_of_whole = std::llround(d(corpus.samples) * length * (1 - recipe.data.validation));

  // Enough rows for a batch of regression, for a few batches of prefill or for two seconds of it.
  const double token = source.flops_per_token(length) + target.flops_per_token(length);
  const double batch = d(recipe.train.regression.batch.size) * 1.2 / (1 - recipe.data.validation);
  const double tokens =
      std::max({1024.0, batch, std::min(4096.0, kSeconds * machine.flops / token)});
  const auto samples = static_cast<int64_t>(std::ceil(tokens / length)) + 8;
  r.data.max_samples = std::min(corpus.samples, samples);
  r.data.max_tokens = 0;
  r.data.batch_tokens =
      std::min(recipe.data.batch_tokens, std::max<int64_t>(1024, at_least_one(tokens / 2)));

  // One lambda: how long choosing takes is computed (ridge_work). Some rows must be held out.
  RidgeOptions& ridge = r.projector.ridge;
  ridge.holdout = 0.25;
  if (ridge.source_layers > 0) {
    // A map of few layers is as wide whatever it may choose from.
    ridge.candidate_layers = ridge.source_layers + 1;
    if (recipe.projector.ridge.candidate_layers > 0)
      ridge.candidate_layers =
          std::min(ridge.candidate_layers, recipe.projector.ridge.candidate_layers);
  }
  ridge.lambda = {recipe.projector.ridge.lambda[recipe.projector.ridge.lambda.size() / 2]};
  ridge.add_sums.clear();

  const double parameters = d(projector_parameters(recipe.projector, source, target));
  const auto steps = [&](const BatchOptions& o, double flops) {
    const double fit = kSeconds * machine.flops_float32 / (flops * d(o.size * o.accumulation));
    return std::clamp<int64_t>(static_cast<int64_t>(fit), 3, 16);
  };
  RegressionOptions& regression = r.train.regression;
  regression.batch.steps = steps(regression.batch, 6 * parameters);
  regression.validate_every = 0;
  regression.patience = 0;
  DistillationOptions& distillation = r.train.distillation;
  const double item = length * (6 * parameters + 2 * token);
  distillation.batch.steps = steps(distillation.batch, item);
  distillation.validate_every = 0;
  distillation.patience = 0;
  distillation.held_out = std::min<int64_t>(distillation.held_out, 16);
  // Every step of a small run prepares the items around those it draws: nearly all there are.
  const double prepared = kSeconds / 8 * machine.flops / (length * token);
  const int64_t parts = 2 * static_cast<int64_t>(distillation.families.size());
  const int64_t whole = distillation.items,
                fewest = std::min<int64_t>(distillation.items, 8 * parts);
  distillation.items =
      std::clamp<int64_t>(static_cast<int64_t>(prepared), fewest,
                          std::max<int64_t>(fewest, std::min<int64_t>(distillation.items, 320)));
  distillation.continuations = distillation.continuations * distillation.items / whole;
  r.train.tensorboard = false;
  r.checkpoint.every = 0;

  // One block of each family and form, since a question is answered longer than a sentence is
  // completed; where that is long, of one family under few conditions.
  EvalOptions& eval = r.eval;
  eval.items = std::min<int64_t>({eval.items, eval.batch_size, 32});
  eval.seeds.resize(1);
  eval.cases = false;
  eval.benchmarks.clear();
  eval.probe_files.clear();
  eval.counterfact_files.clear();
  const double answers =
      d(static_cast<int64_t>(eval.families.size() * eval.forms.size() * eval.conditions.size()) *
        eval.items);
  const double answer = (length + 2 * d(eval.max_new_tokens)) * target.flops_per_token(length);
  if (answers * answer / machine.flops > 4 * kSeconds) {
    if (eval.families.size() > 1) eval.families.resize(1);
    std::erase_if(eval.conditions, [&](const std::string& name) {
      return name != "full_text" && name != "same_cache" && name != "raw" && name != eval.gated;
    });
    if (std::find(eval.conditions.begin(), eval.conditions.end(), "same_cache") ==
        eval.conditions.end())
      eval.conditions.push_back("same_cache");
  }
  return small;
}

double scaled_seconds(const MeasuredStage& measured, const PhaseUnits& planned) {
  double seconds = 0;
  for (const auto& [phase, units] : planned) {
    if (const MeasuredPhase* found = similar(measured, phase); found != nullptr && found->units > 0)
      seconds += found->seconds / found->units * units;
  }
  for (const auto& [phase, took] : measured.phases) {
    const bool of_a_condition = phase.find(' ') != std::string::npos;
    if (!planned.contains(phase) && !of_a_condition) seconds += took.seconds;
  }
  return seconds;
}

void adopt(Plan& plan, const RehearsalInputs& in, const std::vector<MeasuredStage>& measured) {
  const Plan small = make_plan(in.small, in.source, in.target, in.small_corpus, in.machine);
  const auto planned = planned_units(in.recipe, in.source, in.target, in.corpus);
  for (StagePlan& stage : plan.stages) {
    const auto named = [&](const auto& other) { return other.name == stage.name; };
    const auto found = std::find_if(measured.begin(), measured.end(), named);
    const auto cut = std::find_if(small.stages.begin(), small.stages.end(), named);
    if (found == measured.end() || cut == small.stages.end()) continue;
    MeasuredStage mine = *found;
    double computed = 0;
    if (stage.name == "ridge") {
      // Fewer layers were gathered and solved for: products by their operations, the solution by
      // the machine's rates.
      const RidgeWork whole = ridge_work(in.recipe.projector.ridge, in.source, in.target, 1),
                      part = ridge_work(in.small.projector.ridge, in.source, in.target, 1);
      mine.phases["gather"].seconds *= whole.gather / part.gather;
      mine.phases.erase("solve");
      computed = whole.solve_seconds(in.machine);
    }
    const auto units = planned.find(stage.name);
    stage.seconds =
        computed + scaled_seconds(mine, units == planned.end() ? PhaseUnits{} : units->second);
    set_memory(stage, mine.memory + (stage.memory - cut->memory), in.machine);
    stage.rehearsed = "run small";
  }
  total_up(plan, in.machine);
}

}  // namespace kvlingua
