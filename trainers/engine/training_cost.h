// What stages of training have in common when they say what they cost (kvlingua/cost/stage_cost.h).
#pragma once

#include <string>

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

// What a run validates on, and what its baseline is made from, at most.
constexpr int64_t kValidationRows = 4096;  // fewer where rows are wide
constexpr int64_t kTokenMeanRows = 20000;  // training rows of the token-identity baseline
constexpr int64_t kValidationBytes = 256 << 20;

// Rows of the pair set: those that train, and those that are held out and read.
struct RowCounts {
  double train = 0, held_out = 0;
};
RowCounts rows_of(const PlanInputs& in);
// What the first stage of a run reads for all of them to validate on.
double held_out_rows(const PlanInputs& in);

// Reading the pairs holds the loader's groups (256 MiB at most) and the held-out rows.
double reading_bytes(const PlanInputs& in);
// Weights, gradient and two moments in float32, and the copy that a background checkpoint takes.
double training_state_bytes(const PlanInputs& in, double parameters,
                            const OptimizerOptions& optimizer);
// Of all checkpoints that are kept.
double kept_checkpoint_bytes(const PlanInputs& in, double parameters);

// Steps, with so many micro-batches an epoch,
// and what happens every so many of them and at the end.
double steps_of(const BatchOptions& batch, double micro_batches_per_epoch);
PhaseUnits training_units(double steps, int64_t validate_every, double validated,
                          int64_t save_every);
// What a small run takes of a stage: steps of about kSmallSeconds together, three at least; where
// three whole ones take longer, batches as small as that needs, but of `fewest` items. What such a
// step then stands for, scale_steps() says. The warm-up is cut to what so few steps leave room for.
void cut_batch(BatchOptions& batch, OptimizerOptions& optimizer, const PlanInputs& in,
               double flops_per_item, int64_t fewest);
// Of one optimizer step: so many operations an item at so many a second, and a pass over the
// trained parameters' states.
double step_seconds(const PlanInputs& in, const BatchOptions& batch, double flops_per_item,
                    double rate, bool train_base);
// Steps of a small run stand for others that take so many times as long.
void scale_steps(MeasuredStage& measured, double times);
// Steps, batch, trained parameters and a checkpoint's bytes.
void add_training(StagePlan& plan, const PlanInputs& in, const BatchOptions& batch, double steps,
                  bool train_base);

// Training through the frozen target: contexts that the source reads, answers that the target reads
// behind their translated or fused caches.
struct FrozenTraining {
  const char* stage;
  const BatchOptions& batch;
  const OptimizerOptions& optimizer;
  double length = 0;       // of a context
  bool recompute = false;  // layers and a fuser's towers, in backward
  double pairs = 0;        // bytes of what is kept of a pair set and its items; c2c reads none
};
// Whether layers and towers are recomputed in backward: as asked, and for "auto" when what would be
// kept otherwise does not fit the device. On the CPU gradients are the same bits either way; on a
// GPU recomputed towers draw other noise.
bool recomputes(const PlanInputs& in, const std::string& asked, FrozenTraining training);
StagePlan frozen_plan(const PlanInputs& in, const FrozenTraining& training);
// The same with what recomputes() chooses.
StagePlan frozen_plan(const PlanInputs& in, const std::string& recompute, FrozenTraining training);
// What the target reads of an item behind its cache: a question in its frame, and an answer.
double read_per_item(const PlanInputs& in, double context);
// Of each of those tokens, the vocabulary head included.
double answer_flops_per_token(const PlanInputs& in, double context);

}  // namespace kvlingua
