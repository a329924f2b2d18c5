// TrainRun (train_run.h): the stages that take gradient steps, regression and distillation.
#include <ATen/ATen.h>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/random.h"
#include "trainers/engine/plan.h"
#include "trainers/engine/train_run.h"
#include "trainers/stages/continuation_items.h"
#include "trainers/stages/distillation.h"
#include "trainers/stages/distillation_items.h"
#include "trainers/stages/regression.h"

namespace kvlingua {

TrainerOptions TrainRun::trainer_options(const std::string& stage,
                                         const Objective& objective) const {
  TrainerOptions options;
  const auto take = [&](const auto& from) {
    options.optimizer = from.optimizer;
    options.accumulation = from.batch.accumulation;
    options.total_steps = planned_steps(from.batch, objective.micro_batches_per_epoch());
    options.validate_every = from.validate_every;
    options.patience = from.patience;
    options.train_base = from.train_base;
  };
  if (stage == "regression") take(recipe_.train.regression);
  if (stage == "distillation") take(recipe_.train.distillation);
  options.save_every = recipe_.checkpoint.every;
  options.log_every = recipe_.train.log_every;
  options.peers = peers_;
  return options;
}

std::unique_ptr<Objective> TrainRun::objective_for(const std::string& stage, Projector& projector) {
  const RidgeProjector* base = base_of(projector);
  const ChannelStatistics target =
      base != nullptr ? base->target_statistics() : statistics().second;
  if (stage == "regression") {
    const RegressionOptions& options = recipe_.train.regression;
    const bool sequences = options.attention_weight > 0;
    auto data = source(sequences ? LoadUnit::kSequences : LoadUnit::kRows, LoadUse::kTrain,
                       options.batch.size, 0, true, true);
    return std::make_unique<RegressionObjective>(projector, target, options, std::move(data),
                                                 validation(target));
  }
  if (stage == "distillation") {
    const DistillationOptions& options = recipe_.train.distillation;
    const FrozenModels& models = frozen_models();
    const AlignmentKind alignment = alignment_kind_from_name(recipe_.pair.alignment);
    auto items = make_distillation_items(options, recipe_.data.synthetic.style, seed_,
                                         models.source_reader, models.target_reader, alignment);
    const size_t asked = items.size();
    if (options.continuations > 0) {
      add_continuation_items(recipe_, seed_,
                             static_cast<uint64_t>(context_.seed_or(recipe_.data.seed)),
                             models.source_reader, models.target_reader, items);
    }
    if (recipe_.train.shuffle_pairs) deal_sources_on(items);
    folder_.remark(cat(
        "distillation: ", asked, " contexts with a question or the beginning of an answer",
        options.continuations > 0 ? cat(", ", items.size() - asked, " documents to be continued")
                                  : ""));
    const FrozenPair pair{&models.source, &models.target, models.source_reader.before,
                          models.target_reader.before};
    return std::make_unique<DistillationObjective>(projector, pair, std::move(items), target,
                                                   options, seed_, validation(target),
                                                   peers_.rank(), peers_.size());
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "train.stages",
               .what = "stage is not in this version",
               .got = stage});
}

const FrozenModels& TrainRun::frozen_models() {
  if (!models_) models_ = load_frozen_models(recipe_, info_, device_);
  return *models_;
}

void TrainRun::gradient(TrainState state, const std::optional<Checkpoint>& resumed,
                        const std::string& where) {
  std::string from = where;
  const std::optional<Checkpoint> start = resumed ? resumed : previous(state.stage, from);
  if (!resumed && start) {
    state.global_step = start->state.global_step;
    state.results = start->state.results;
    state.metrics_bytes = start->state.metrics_bytes;
  }
  at::manual_seed(mix(seed_, hash_name(state.stage)));
  const std::unique_ptr<Projector> projector = projector_for(start, from);
  const std::unique_ptr<Objective> objective = objective_for(state.stage, *projector);
  TrainerOptions options = trainer_options(state.stage, *objective);
  options.meter = &*meter_;
  if (resumed && state.total_steps != options.total_steps) {
    log_warning(cat(state.stage, ": planned for ", state.total_steps,
                    " steps when it began, now for ", options.total_steps));
  }
  state.total_steps = options.total_steps;
  Trainer trainer(*projector, *objective, options, folder_.observers(), [&](const Checkpoint& c) {
    Checkpoint checkpoint = c;
    if (checkpoint.state.stage_finished) folder_.finish(checkpoint.state);
    checkpoint.pair = pair_;
    checkpoint.recipe_yaml = recipe_.to_yaml();
    return folder_.save(checkpoint);
  });
  if (resumed) {
    trainer.resume(*resumed, from);
  } else {
    trainer.set_last_good(from);
  }
  for (auto& observer : folder_.observers())
    observer->begin(state, resumed.has_value() || start.has_value());
  folder_.remark(cat(state.stage, ": ", options.total_steps, " steps, ",
                     projector->parameter_count(), " parameters"));
  trainer.fit(state);
}

}  // namespace kvlingua
