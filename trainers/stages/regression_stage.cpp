// Stage regression: rows of the pair set through the projector (regression.h).
#include <algorithm>

#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"
#include "trainers/engine/gradient_stage.h"
#include "trainers/engine/train_run.h"
#include "trainers/engine/training_cost.h"
#include "trainers/stages/regression.h"

namespace kvlingua {
namespace {

class RegressionStage : public PairStage {
 public:
  explicit RegressionStage(TrainRun& run) : PairStage(run, kRegressionStage) {}

 private:
  const RegressionOptions& options() const { return run_.recipe().train.regression; }

  std::unique_ptr<Objective> make_objective(Projector& projector,
                                            const ChannelStatistics& target) override {
    PairData& pairs = run_.pairs();
    const bool sequences = options().attention_weight > 0;
    auto data = pairs.source(sequences ? LoadUnit::kSequences : LoadUnit::kRows, LoadUse::kTrain,
                             options().batch.size, 0, true, true);
    return std::make_unique<RegressionObjective>(projector, target, options(), std::move(data),
                                                 pairs.validation(target));
  }

  TrainerOptions trainer_options() override {
    return loop_options(options(), objective().micro_batches_per_epoch());
  }
};

// ---- what it costs ----

double d(int64_t value) { return static_cast<double>(value); }

StagePlan plan(const PlanInputs& in) {
  const RegressionOptions& options = in.recipe.train.regression;
  const ProjectorOptions& projector = in.recipe.projector;
  const double parameters = in.projector_parameters();
  const double state = training_state_bytes(in, parameters, options.optimizer);
  const double networks = 2 * d(in.target.layers), reading = reading_bytes(in);
  const double inputs = 2 * d((in.source.layers + previous_tokens(projector.ridge).count()) *
                              in.source.kv_channels()),
               outputs = networks * d(in.target.kv_channels());
  const double hidden = networks * d(projector.mlp.hidden + projector.mlp.rank) *
                        (2.0 + 2.0 * d(projector.mlp.depth));
  const auto memory = [=](double rows) {
    return state + reading + rows * 4 * (3 * inputs + hidden + 6 * outputs);
  };
  StagePlan plan =
      affine_plan(in, kRegressionStage, memory, "train.regression.batch.size", options.batch.size);
  const double step = d(options.batch.size * options.batch.accumulation);
  const double rows = options.batch.steps > 0 ? d(options.batch.steps) * step
                                              : options.batch.epochs * in.span_tokens();
  const double steps = std::max(1.0, rows / step);
  plan.products = 6 * parameters * rows;
  plan.seconds = plan.products / in.machine.flops_float32 +
                 steps * parameters * 4 * 6 / in.machine.bandwidth +
                 steps * 200 * in.machine.launch_seconds;
  plan.disk = kept_checkpoint_bytes(in, parameters);
  add_training(plan, in, options.batch,
               steps_of(options.batch, rows_of(in).train / d(options.batch.size)),
               options.train_base);
  return plan;
}

PhaseUnits units(const PlanInputs& in) {
  const RegressionOptions& o = in.recipe.train.regression;
  const RowCounts rows = rows_of(in);
  return training_units(steps_of(o.batch, rows.train / d(o.batch.size)), o.validate_every,
                        rows.held_out, in.recipe.checkpoint.every);
}

// Forward through all parameters, backward through those that are trained.
double flops_per_row(const PlanInputs& in) {
  const ParameterCount count =
      count_parameters(in.recipe.projector, in.source.kv_shape(), in.target.kv_shape());
  return 2 * d(count.total()) + 4 * d(count.trained(in.recipe.train.regression.train_base));
}

double seconds_of_step(const PlanInputs& in) {
  const RegressionOptions& o = in.recipe.train.regression;
  return step_seconds(in, o.batch, flops_per_row(in), in.machine.flops_float32, o.train_base);
}

void cut(Recipe& small, const PlanInputs& in) {
  constexpr int64_t kFewestRows = 128;  // what a matrix product of rows is worth beginning for
  RegressionOptions& o = small.train.regression;
  cut_batch(o.batch, o.optimizer, in, flops_per_row(in), kFewestRows);
  o.validate_every = 0;
  o.patience = 0;
}

// Smaller batches, and a map of fewer layers where ridge solved for few.
double correct(MeasuredStage& measured, const PlanInputs& whole, const PlanInputs& small) {
  scale_steps(measured, seconds_of_step(whole) / seconds_of_step(small));
  measured.phases["validate"].seconds *=
      whole.projector_parameters() / small.projector_parameters();
  return 0;
}

}  // namespace

StageCost regression_cost() {
  return {.plan = plan, .units = units, .cut = cut, .correct = correct};
}

std::unique_ptr<Stage> make_regression_stage(TrainRun& run) {
  return std::make_unique<RegressionStage>(run);
}

}  // namespace kvlingua
