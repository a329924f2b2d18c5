#include "trainers/engine/training_cost.h"

#include <algorithm>
#include <cmath>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

// One row in float32, the source's tokens before it too.
double row_bytes(const PlanInputs& in) {
  const double previous =
      2.0 * d(previous_tokens(in.recipe.projector.ridge).count()) * d(in.source.kv_channels());
  return in.source.kv_bytes(4) + in.target.kv_bytes(4) + 4 * previous;
}

}  // namespace

RowCounts rows_of(const PlanInputs& in) {
  const DataOptions& data = in.recipe.data;
  const double kept = data.tokens_per_sample > 0
                          ? std::min(d(data.tokens_per_sample), in.corpus.tokens_per_sample)
                          : in.corpus.tokens_per_sample;
  const double all = d(in.corpus.samples) * kept;
  const double held =
      std::min({all * data.validation, d(kValidationRows), d(kValidationBytes) / row_bytes(in)});
  return {in.known_train_rows > 0 ? in.known_train_rows : all * (1 - data.validation), held};
}

double held_out_rows(const PlanInputs& in) {
  const RowCounts rows = rows_of(in);
  return std::min(d(kTokenMeanRows), rows.train) + rows.held_out;
}

double reading_bytes(const PlanInputs& in) {
  const double loader = 256 << 20;
  const double element = storage_element_bytes(in.recipe.data.storage_dtype);
  const double stored =
      in.span_tokens() * (in.source.kv_bytes(element) + in.target.kv_bytes(element));
  const double row = row_bytes(in);
  const double held = std::min({4096.0, loader / row, in.span_tokens()}) * row;
  return in.machine.cuda ? held : held + std::min(stored, loader);
}

double training_state_bytes(const PlanInputs& in, double parameters,
                            const OptimizerOptions& optimizer) {
  const double copies = 4 + (optimizer.ema > 0 ? 1 : 0) +
                        (in.recipe.checkpoint.background && !in.machine.cuda ? 3 : 0);
  return parameters * 4 * copies;
}

double kept_checkpoint_bytes(const PlanInputs& in, double parameters) {
  return parameters * 4 * 3 * d(in.recipe.checkpoint.keep_last + in.recipe.checkpoint.keep_best);
}

double steps_of(const BatchOptions& batch, double micro_batches_per_epoch) {
  if (batch.steps > 0) return d(batch.steps);
  return std::max(1.0, std::ceil(batch.epochs * std::max(1.0, std::floor(micro_batches_per_epoch)) /
                                 d(batch.accumulation)));
}

PhaseUnits training_units(double steps, int64_t validate_every, double validated,
                          int64_t save_every) {
  const auto times = [&](int64_t every) {
    return 1 + (every > 0 ? std::floor((steps - 1) / d(every)) : 0);
  };
  return {{"steps", steps},
          {"validate", validated * times(validate_every)},
          {"save", times(save_every)}};
}

void cut_batch(BatchOptions& batch, OptimizerOptions& optimizer, const PlanInputs& in,
               double flops_per_item, int64_t fewest) {
  constexpr int64_t kFewestSteps = 3;
  const double items = kSmallSeconds * in.machine.flops_float32 / flops_per_item;
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(items / d(kFewestSteps)));
  if (most < batch.size * batch.accumulation) {
    batch.size = std::min(batch.size, std::max(most, fewest));
    batch.accumulation = 1;
  }
  batch.steps = std::clamp<int64_t>(
      static_cast<int64_t>(items / d(batch.size * batch.accumulation)), kFewestSteps, 16);
  optimizer.warmup_steps = std::min(optimizer.warmup_steps, batch.steps - 1);
}

double step_seconds(const PlanInputs& in, const BatchOptions& batch, double flops_per_item,
                    double rate, bool train_base) {
  const ParameterCount count =
      count_parameters(in.recipe.projector, in.source.kv_shape(), in.target.kv_shape());
  return d(batch.size * batch.accumulation) * flops_per_item / rate +
         d(count.trained(train_base)) * 4 * 6 / in.machine.bandwidth;
}

void scale_steps(MeasuredStage& measured, double times) {
  for (const char* phase : {"first_step", "steps"})
    if (const auto found = measured.phases.find(phase); found != measured.phases.end())
      found->second.seconds *= times;
}

void add_training(StagePlan& plan, const PlanInputs& in, const BatchOptions& batch, double steps,
                  bool train_base) {
  const ParameterCount count =
      count_parameters(in.recipe.projector, in.source.kv_shape(), in.target.kv_shape());
  plan.steps = static_cast<int64_t>(steps);
  plan.step_size = batch.size * batch.accumulation;
  plan.parameters = count.trained(train_base);
  // Weights, and of what is trained masters or moments in float32.
  plan.checkpoint_bytes = 4 * d(count.total()) + 12 * d(plan.parameters);
}

double read_per_item(const PlanInputs& in, double context) {
  return 24 + std::min<double>(d(in.recipe.train.distillation.max_answer), context);
}

double answer_flops_per_token(const PlanInputs& in, double context) {
  return in.target.flops_per_token(context) + 2 * d(in.target.head_parameters);
}

namespace {

// Peak with so many items in a micro-batch.
double frozen_memory(const PlanInputs& in, const FrozenTraining& training, double items) {
  constexpr double kTowerGroups = 7;  // of recomputed towers one group is there at a time
  const double scored =
      std::min<double>(d(in.recipe.train.distillation.max_answer), training.length);
  const ProjectorOptions& projector = in.recipe.projector;
  const bool towers = projector.kind == "c2c";
  const double tokens = items * training.length, layers = d(in.target.layers);
  const double kept_layers = training.recompute ? 1 + std::sqrt(layers) : layers;
  const double networks = 2 * layers / (towers && training.recompute ? kTowerGroups : 1);
  const double width = towers ? 12.0 * d(projector.c2c.hidden_dim)
                              : 4.0 * d(projector.mlp.hidden) + 6.0 * d(in.target.kv_channels());
  const double constant = resident_weights(in, false) +
                          training_state_bytes(in, in.projector_parameters(), training.optimizer) +
                          training.pairs;
  const double caches = tokens * (in.source.kv_bytes(4) + 2 * in.target.kv_bytes(4));
  const double logits = 3 * items * scored * d(in.target.vocab) * 4;  // student, teacher, gradient
  return constant + caches + tokens * networks * width * 4 +
         items * read_per_item(in, training.length) * kept_layers *
             in.target.saved_bytes_per_token() +
         logits + in.source.activation_bytes(tokens);
}

}  // namespace

bool recomputes(const PlanInputs& in, const std::string& asked, FrozenTraining training) {
  if (asked != "auto") return asked == "true";
  training.recompute = false;
  const double kept = frozen_memory(in, training, d(training.batch.size));
  return in.machine.base_memory + kept > in.machine.memory;
}

StagePlan frozen_plan(const PlanInputs& in, const FrozenTraining& training) {
  const BatchOptions& batch = training.batch;
  const double parameters = in.projector_parameters(), context = training.length;
  const double read = read_per_item(in, context);
  const auto memory = [&](double items) { return frozen_memory(in, training, items); };
  StagePlan plan = affine_plan(in, training.stage, memory,
                               cat("train.", training.stage, ".batch.size"), batch.size);
  plan.weights = resident_weights(in, false);
  const double items = d(batch.size * batch.accumulation);
  const double steps =
      batch.steps > 0 ? d(batch.steps) : std::max(1.0, batch.epochs * d(in.corpus.samples) / items);
  const double flops =
      items * context *
          (in.source.flops_per_token(context) + in.target.flops_per_token(context)) +  // contexts
      items * read * answer_flops_per_token(in, context) *
          (training.recompute ? 4 : 3) +  // teacher, student, gradient to its past
      items * context * 6 * parameters;
  const double launches = d(batch.accumulation) *
                          (in.source.operations() + 4 * in.target.operations()) *
                          in.machine.launch_seconds;
  plan.recomputed = training.recompute;
  plan.products = steps * flops;
  plan.seconds = steps * (std::max(flops / in.machine.flops, launches) +
                          parameters * 4 * 6 / in.machine.bandwidth);
  plan.disk = kept_checkpoint_bytes(in, parameters);
  return plan;
}

StagePlan frozen_plan(const PlanInputs& in, const std::string& recompute, FrozenTraining training) {
  training.recompute = recomputes(in, recompute, training);
  StagePlan plan = frozen_plan(in, training);
  if (recompute == "auto" && !plan.recomputed) {  // a larger batch would be
    training.recompute = true;
    plan.largest_batch = frozen_plan(in, training).largest_batch;
  }
  return plan;
}

}  // namespace kvlingua
