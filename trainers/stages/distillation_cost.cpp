// What stage distillation costs: its items are prepared once where they are kept, else whenever
// they are drawn.
#include <algorithm>
#include <cmath>

#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"
#include "trainers/engine/training_cost.h"
#include "trainers/stages/distillation.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

// What is prepared of its items: of each the source's rows, the target's own and what the teacher
// says of the answer. Kept while all fit in kKeptItemBytes.
struct PreparedItems {
  double items = 0, bytes = 0;  // of all
  bool kept() const { return bytes <= d(kKeptItemBytes); }
};

PreparedItems prepared_items(const PlanInputs& in) {
  constexpr double kGoldAnswer = 8;  // tokens, about, of a built-in item's
  const DistillationOptions& o = in.recipe.train.distillation;
  // Of items drawn without end only those are kept that choose the best state.
  const double asked = d(o.held_out + (o.endless() ? 0 : o.items)),
               continued = o.endless() ? 0 : d(std::min(o.continuations, in.corpus.samples));
  const double length = in.length(), most = d(o.max_answer);
  const double answers =
      asked * std::min(kGoldAnswer, most) + continued * std::min(length / 2, most);
  const double previous = d(previous_tokens(in.recipe.projector.ridge).count());
  const double token =
      in.source.kv_bytes(4) + in.target.kv_bytes(4) + 8.0 * previous * d(in.source.kv_channels());
  const double items = asked + continued;
  return {items, items * length * token + answers * d(in.target.vocab) * 4};
}

FrozenTraining training_of(const PlanInputs& in) {
  const DistillationOptions& o = in.recipe.train.distillation;
  const PreparedItems prepared = prepared_items(in);
  return {.stage = kDistillationStage,
          .batch = o.batch,
          .optimizer = o.optimizer,
          .length = in.length(),
          .pairs = reading_bytes(in) + (prepared.kept() ? prepared.bytes : 0)};
}

StagePlan plan(const PlanInputs& in) {
  const DistillationOptions& o = in.recipe.train.distillation;
  StagePlan plan = frozen_plan(in, o.checkpoint_activations, training_of(in));
  plan.unit = "contexts";
  add_training(plan, in, o.batch, steps_of(o.batch, d(o.items) / d(o.batch.size)), o.train_base);
  return plan;
}

PhaseUnits units(const PlanInputs& in) {
  const DistillationOptions& o = in.recipe.train.distillation;
  const PreparedItems prepared = prepared_items(in);
  const double items = prepared.items, held = d(o.held_out);
  const double steps = steps_of(o.batch, items / d(o.batch.size));
  // Beside what is held out as many that were trained on, 64 at most.
  const double validated = held + std::min(64.0, held);
  PhaseUnits units = training_units(steps, o.validate_every, validated, in.recipe.checkpoint.every);
  if (o.keep_best) units["validate"] += validated;
  // Kept when all fit: then each is prepared once, when first drawn or near to it. Else
  // whenever it is drawn.
  const double drawn = steps * d(o.batch.size * o.batch.accumulation);
  if (o.endless()) {
    const double once = prepared.kept() ? held : held * units["validate"] / validated;
    units["prepare"] = drawn + once + std::min(64.0, held) * units["validate"] / validated;
  } else if (prepared.kept()) {
    // A draw prepares the sixteen items around it.
    const double blocks = std::ceil(items / 16);
    units["prepare"] = items * (1 - std::pow(1 - 1 / blocks, drawn + held)) + held;
  } else {
    units["prepare"] = drawn + units["validate"];
  }
  return units;
}

// Of a context in one step: the map forward, what is trained of it backward, and the target's pass
// over question and answer with the gradient to its past.
double flops_per_item(const PlanInputs& in) {
  const DistillationOptions& o = in.recipe.train.distillation;
  const ParameterCount count =
      count_parameters(in.recipe.projector, in.source.kv_shape(), in.target.kv_shape());
  const double length = in.length(),
               passes = recomputes(in, o.checkpoint_activations, training_of(in)) ? 3 : 2;
  return length * (2 * d(count.total()) + 4 * d(count.trained(o.train_base))) +
         passes * read_per_item(in, length) * answer_flops_per_token(in, length);
}

double seconds_of_step(const PlanInputs& in) {
  const DistillationOptions& o = in.recipe.train.distillation;
  return step_seconds(in, o.batch, flops_per_item(in), in.machine.flops, o.train_base);
}

void cut(Recipe& small, const PlanInputs& in) {
  constexpr int64_t kFewestContexts = 2, kFewestHeld = 8;
  DistillationOptions& o = small.train.distillation;
  const double length = in.length();
  const double token = in.source.flops_per_token(length) + in.target.flops_per_token(length);
  cut_batch(o.batch, o.optimizer, in, flops_per_item(in), kFewestContexts);
  o.validate_every = 0;
  o.patience = 0;
  // Every step of a small run prepares the items around those it draws: nearly all there are.
  const double prepared = kSmallSeconds / 8 * in.machine.flops / (length * token);
  o.held_out = std::clamp<int64_t>(static_cast<int64_t>(prepared), kFewestHeld,
                                   std::clamp<int64_t>(o.held_out, kFewestHeld, 16));
  const int64_t parts = 2 * static_cast<int64_t>(o.families.size());
  const int64_t whole = o.items,
                fewest = std::min<int64_t>(o.items, o.held_out > kFewestHeld ? 8 * parts : 16);
  o.items = std::clamp<int64_t>(static_cast<int64_t>(prepared), fewest,
                                std::max<int64_t>(fewest, std::min<int64_t>(o.items, 320)));
  o.continuations = o.continuations * o.items / whole;
}

// Smaller batches, and a map of fewer layers where ridge solved for few.
double correct(MeasuredStage& measured, const PlanInputs& whole, const PlanInputs& small) {
  scale_steps(measured, seconds_of_step(whole) / seconds_of_step(small));
  return 0;
}

}  // namespace

StageCost distillation_cost() {
  return {.plan = plan, .units = units, .cut = cut, .correct = correct};
}

}  // namespace kvlingua
