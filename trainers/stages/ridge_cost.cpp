#include "trainers/stages/ridge_cost.h"

#include <algorithm>

#include "kvlingua/projector/ridge.h"
#include "trainers/engine/training_cost.h"

namespace kvlingua {
namespace {

constexpr double kSmallRidgeRows = 1024;  // of a small run, about

double d(int64_t value) { return static_cast<double>(value); }

// Source channels that one ridge problem gathers, and that one target layer reads.
int64_t gathered_channels(const RidgeOptions& ridge, const KvShape& source) {
  const int64_t candidates =
      ridge.candidate_layers > 0 ? std::min(ridge.candidate_layers, source.layers) : source.layers;
  const int64_t both = ridge.features == "both" ? 2 : 1;
  return both * (candidates + previous_tokens(ridge).count()) * source.width();
}
int64_t read_channels(const RidgeOptions& ridge, const KvShape& source) {
  const int64_t gathered = gathered_channels(ridge, source);
  const int64_t both = ridge.features == "both" ? 2 : 1;
  if (ridge.budget > 0) return std::min(gathered, both * ridge.budget * source.width());
  if (ridge.source_layers == 0) return gathered;
  return std::min(gathered, both * ridge.source_layers * source.width());
}

StagePlan plan(const PlanInputs& in) {
  const RidgeOptions& ridge = in.recipe.projector.ridge;
  const KvShape source = in.source.kv_shape(), target = in.target.kv_shape();
  const bool joint = ridge.features == "both";
  const double problems = joint ? 1 : 2, f = d(gathered_channels(ridge, source)),
               g = d(target.layers * target.width()) * (joint ? 2 : 1);
  const double element = 8;
  const double sums = problems * (f * f + f * g) * element;
  // Fitted and held-out rows are gathered apart, whether any are held out or not. The solution
  // holds their sum, and in standard units all, the fitted and the held-out rows.
  const bool judged =
      ridge.lambda.size() > 1 || ridge.source_layers > 0 || ridge.budget > 0 || ridge.curve > 0;
  // Choosing layers takes what was chosen out of a copy of the fitted and the held-out ones.
  const double copies = (judged ? 5 : 3) + (ridge.budget > 0 ? 2 : 0);
  // One group's system: a shifted copy, its factor and two weights; with a choice of lambda the
  // best one so far and the held-out products too.
  const double n = d(read_channels(ridge, source)),
               o = ridge.source_layers == 0 ? g : d(target.width());
  const double solve = (n * n * 2 + (ridge.lambda.size() > 1 ? 6 : 4) * n * o) * element;
  const double weights = d(count_parameters(ridge, source, target).total()) * 4;
  const double reading = reading_bytes(in);
  const auto memory = [=](double) { return sums * copies + solve + weights * 2 + reading; };
  StagePlan plan = affine_plan(in, kRidgeStage, memory, "", 0);
  const RidgeWork work = ridge_work(ridge, source, target, in.span_tokens());
  plan.seconds = work.gather / in.machine.flops_float32 + work.solve_seconds(in.machine) +
                 work.kept / in.machine.disk_rate;
  plan.disk = weights + work.kept;
  plan.remedy = "lower projector.ridge.candidate_layers";
  const double rows = rows_of(in).train;
  plan.steps = 1;
  plan.step_size = static_cast<int64_t>(rows);
  plan.parameters = count_parameters(ridge, source, target).map;
  plan.products = ridge_work(ridge, source, target, rows).gather + work.product + work.cholesky;
  plan.checkpoint_bytes = weights;
  plan.rows_per_feature = rows / d(ridge_plan(ridge, source, target).in_width());
  return plan;
}

PhaseUnits units(const PlanInputs& in) {
  const RowCounts rows = rows_of(in);
  const RidgeWork work =
      ridge_work(in.recipe.projector.ridge, in.source.kv_shape(), in.target.kv_shape(), rows.train);
  return {{"gather", rows.train}, {"keep", work.kept}, {"validate", rows.held_out}};
}

// A map of all layers is cut to as many as are gathered and solved for in kSmallSeconds, about.
int64_t small_candidates(const PlanInputs& in) {
  RidgeOptions ridge = in.recipe.projector.ridge;
  const int64_t asked = ridge.candidate_layers;
  int64_t layers = asked > 0 ? std::min(asked, in.source.layers) : in.source.layers;
  ridge.lambda.resize(1);
  const auto seconds = [&] {
    ridge.candidate_layers = layers;
    const RidgeWork work =
        ridge_work(ridge, in.source.kv_shape(), in.target.kv_shape(), kSmallRidgeRows);
    return work.gather / in.machine.flops_float32 + work.solve_seconds(in.machine);
  };
  if (seconds() <= 2 * kSmallSeconds) return asked;
  while (layers > 1 && seconds() > kSmallSeconds) layers = layers * 3 / 4;
  return layers;
}

// One lambda: how long choosing takes is computed (ridge_work). Some rows must be held out.
void cut(Recipe& small, const PlanInputs& in) {
  const RidgeOptions& whole = in.recipe.projector.ridge;
  RidgeOptions& ridge = small.projector.ridge;
  ridge.holdout = 0.25;
  if (ridge.source_layers > 0) {
    // A map of few layers is as wide whatever it may choose from.
    ridge.candidate_layers = ridge.source_layers + 1;
    if (whole.candidate_layers > 0)
      ridge.candidate_layers = std::min(ridge.candidate_layers, whole.candidate_layers);
  } else {
    ridge.candidate_layers = small_candidates(in);
  }
  ridge.lambda = {whole.lambda[whole.lambda.size() / 2]};
  ridge.add_sums.clear();
  ridge.curve = 0;
}

// Fewer layers were gathered and solved for: products by their operations, the solution by the
// machine's rates.
double correct(MeasuredStage& measured, const PlanInputs& whole, const PlanInputs& small) {
  const auto work = [](const PlanInputs& in) {
    return ridge_work(in.recipe.projector.ridge, in.source.kv_shape(), in.target.kv_shape(), 1);
  };
  measured.phases["gather"].seconds *= work(whole).gather / work(small).gather;
  measured.phases["validate"].seconds *=
      whole.projector_parameters() / small.projector_parameters();
  measured.phases.erase("solve");
  return work(whole).solve_seconds(whole.machine);
}

}  // namespace

StageCost ridge_cost() { return {.plan = plan, .units = units, .cut = cut, .correct = correct}; }

double RidgeWork::solve_seconds(const MachineNumbers& machine) const {
  return product / machine.flops_float64 + cholesky / machine.flops_cholesky +
         moved / machine.bandwidth + fresh / machine.first_touch;
}

RidgeWork ridge_work(const RidgeOptions& ridge, const KvShape& source, const KvShape& target,
                     double rows) {
  const bool joint = ridge.features == "both";
  const double problems = joint ? 1 : 2, f = d(gathered_channels(ridge, source)),
               g = d(target.layers * target.width()) * (joint ? 2 : 1);
  const double grid = d(static_cast<int64_t>(ridge.lambda.size()));
  const bool choosing = grid > 1, some = ridge.source_layers > 0,
             judged = choosing || some || ridge.budget > 0 || ridge.curve > 0;
  // A symmetric product is done by half.
  RidgeWork work{.gather = problems * rows * (f * f + 2 * f * g)};
  const auto system = [&](double groups, double n, double o, bool choose) {
    // Of the fitted rows for each lambda to be judged; of all rows for each that some layer chose.
    const double tried = judged ? grid : 0, kept = choose ? std::min(grid, 3.0) : 1;
    work.cholesky += groups * (tried + kept) * n * n * n / 3;
    work.product += groups * (2 * tried + 1) * 2 * n * n * o;  // solutions and held-out errors
  };
  const double n = d(read_channels(ridge, source)), layer = d(source.width()) * (joint ? 2 : 1),
               layers = d(target.layers);
  const double points = 1 + d(ridge.curve);  // of the learning curve, with the map itself
  for (double i = 0; i < points; ++i)
    system(some ? 2 * layers : problems, n, some ? d(target.width()) : g, choosing);
  // The control: one aligned layer, by the same grid.
  system(2 * layers, layer, d(target.width()), choosing);
  if (some && ridge.selection == "predictive") {  // each candidate layer alone, for keys and values
    const double candidates = f / layer;
    work.cholesky += 2 * candidates * layer * layer * layer / 3;
    work.product += 2 * candidates * 2 * 2 * layer * layer * layers * d(target.width());
  }
  const double blocks = f / layer, chosen = std::min(d(ridge.budget), blocks);
  if (ridge.budget > 0 && chosen < blocks) {
    // Each open block alone in each round, then what was chosen taken out of all the others.
    const double tried = points * chosen * (blocks - (chosen - 1) / 2);
    work.cholesky += problems * tried * layer * layer * layer / 3;
    work.product += problems * tried * 4 * layer * layer * g;
    work.product += points * problems * chosen * 2 * layer * (4 * f * f + 6 * f * g);
  }
  // Merging, scaling by both deviations and by n, mirroring: about twelve passes, for every
  // solution and for the control.
  const double sums = problems * (f * f + f * g) * 8;
  work.moved = (points + 1) * 12 * sums * 2;
  // All rows', and where some were held out the fitted ones' and theirs about the mean; for both.
  work.fresh = (points + 1) * (judged ? 3 : 1) * sums;
  work.kept = 2 * sums;  // of fitted and of held-out rows, for later data
  return work;
}

}  // namespace kvlingua
