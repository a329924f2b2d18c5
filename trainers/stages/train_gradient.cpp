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
  if (stage == "distillation") {
    const DistillationOptions& from = recipe_.train.distillation;
    take(from);
    options.keep_best = from.keep_best;
    options.range_test = from.range_test;
    options.divergence_score = from.divergence_kl;
    options.divergence_r2 = from.divergence_r2;
    options.remedy = cat("lower train.distillation.optimizer.lr (", from.optimizer.lr,
                         from.train_base ? "), leave the linear map frozen (train_base: false)"
                                         : "), raise its warmup_ratio",
                         " or raise train.distillation.anchor (", from.anchor, ")");
  }
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
    DistillationData data = distillation_data(options, models, alignment);
    const FrozenPair pair{&models.source, &models.target, models.source_reader.before,
                          models.target_reader.before};
    return std::make_unique<DistillationObjective>(projector, pair, std::move(data), target,
                                                   options, seed_, validation(target),
                                                   peers_.rank(), peers_.size());
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "train.stages",
               .what = "stage is not in this version",
               .got = stage});
}

DistillationData TrainRun::distillation_data(const DistillationOptions& options,
                                             const FrozenModels& models,
                                             AlignmentKind alignment) const {
  // As evaluation chooses its families' language.
  const bool nano = recipe_.data.kind == "synthetic" && recipe_.data.synthetic.style == "nano";
  const auto items_of = [&](ValuePart part, FreshItems::Other other, double share) {
    return std::make_shared<FreshItems>(options, nano ? FamilyStyle::kNano : FamilyStyle::kEnglish,
                                        seed_, part, models.source_reader, models.target_reader,
                                        alignment, std::move(other), share);
  };
  std::shared_ptr<Continuations> continuations;
  if (options.continuations > 0 || options.continuation_share > 0) {
    continuations = std::make_shared<Continuations>(
        recipe_, seed_, static_cast<uint64_t>(context_.seed_or(recipe_.data.seed)),
        models.source_reader, models.target_reader);
  }
  FreshItems::Other other;
  if (continuations) other = [continuations](uint64_t n) { return continuations->fresh(n); };
  DistillationData data;
  const auto validation = items_of(ValuePart::kValidation, {}, 0);
  for (int64_t i = 0; i < options.held_out; ++i)
    data.held_out.push_back(validation->item(static_cast<uint64_t>(i)));
  // The control deals a list's sources on; without end there is no next one to take it from.
  const bool endless = options.endless() && !recipe_.train.shuffle_pairs;
  const auto fresh = items_of(ValuePart::kTraining, other, options.continuation_share);
  if (endless) {
    data.fresh = fresh;
  } else {
    data.items = make_distillation_items(options, *fresh);
  }
  const size_t asked = data.items.size();
  if (options.continuations > 0)
    add_continuation_items(*continuations, options.continuations, seed_, data.items);
  if (recipe_.train.shuffle_pairs) deal_sources_on(data.items);
  folder_.remark(cat(
      "distillation: ", endless ? std::string("items drawn without end") : cat(asked, " contexts"),
      " with a question or the beginning of an answer",
      options.continuations > 0 ? cat(", ", data.items.size() - asked, " documents to be continued")
                                : "",
      options.continuation_share > 0
          ? cat(", a share of ", options.continuation_share, " documents to be continued")
          : "",
      "; chosen by ", data.held_out.size(), " of names and values never trained on"));
  return data;
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
  const nlohmann::json made_by = provenance(state.stage, start_folder(state.stage)).to_json();
  Trainer trainer(*projector, *objective, options, folder_.observers(), [&](const Checkpoint& c) {
    Checkpoint checkpoint = c;
    checkpoint.made_by = made_by;
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
  int64_t trained = 0;
  for (const auto& [name, tensor] : trainable_parameters(*projector, options.train_base))
    trained += tensor.numel();
  folder_.remark(cat(state.stage, ": ", options.total_steps, " steps, ", trained, " of ",
                     projector->parameter_count(), " parameters"));
  trainer.fit(state);
}

}  // namespace kvlingua
