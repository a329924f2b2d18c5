// Stage distillation: contexts and questions through the frozen target (distillation.h).
#include "kvlingua/base/error.h"
#include "trainers/engine/gradient_stage.h"
#include "trainers/engine/train_run.h"
#include "trainers/stages/continuation_items.h"
#include "trainers/stages/distillation.h"
#include "trainers/stages/distillation_items.h"
#include "trainers/stages/frozen_models.h"

namespace kvlingua {
namespace {

class DistillationStage : public PairStage {
 public:
  explicit DistillationStage(TrainRun& run) : PairStage(run, kDistillationStage) {}

 private:
  const DistillationOptions& options() const { return run_.recipe().train.distillation; }

  std::unique_ptr<Objective> make_objective(Projector& projector,
                                            const ChannelStatistics& target) override {
    models_ = load_frozen_models(run_.recipe(), run_.pairs().info(), run_.device());
    DistillationData items = data();
    MachineNumbers machine;
    set_memory(machine, run_.device());
    DistillationOptions chosen = options();
    chosen.checkpoint_activations = plan(machine).recomputed ? "true" : "false";
    return std::make_unique<DistillationObjective>(
        projector, models_->source_reader, models_->target_reader, std::move(items), target, chosen,
        run_.seed(), run_.pairs().validation(target), run_.peers().rank(), run_.peers().size());
  }

  DistillationData data() const;

  TrainerOptions trainer_options() override {
    const DistillationOptions& from = options();
    TrainerOptions to = loop_options(from, objective().micro_batches_per_epoch());
    to.keep_best = from.keep_best;
    to.scale_loss = models_->target.model.dtype() == at::kHalf;
    to.range_test = from.range_test;
    to.divergence_score = from.divergence_kl;
    to.divergence_r2 = from.divergence_r2;
    to.remedy = cat("lower train.distillation.optimizer.lr (", from.optimizer.lr,
                    from.train_base ? "), leave the linear map frozen (train_base: false)"
                                    : "), raise its warmup_ratio",
                    " or raise train.distillation.anchor (", from.anchor, ")");
    return to;
  }

  std::unique_ptr<FrozenModels> models_;
};

DistillationData DistillationStage::data() const {
  const DistillationOptions& options = this->options();
  const Recipe& recipe = run_.recipe();
  const AlignmentKind alignment = alignment_kind_from_name(recipe.pair.alignment);
  // As evaluation chooses its families' language.
  const bool nano = recipe.data.kind == "synthetic" && recipe.data.synthetic.style == "nano";
  const auto items_of = [&](ValuePart part, FreshItems::Other other, double share) {
    return std::make_shared<FreshItems>(options, nano ? FamilyStyle::kNano : FamilyStyle::kEnglish,
                                        run_.seed(), part, models_->source_reader,
                                        models_->target_reader, alignment, std::move(other), share);
  };
  std::shared_ptr<Continuations> continuations;
  if (options.continuations > 0 || options.continuation_share > 0) {
    continuations = std::make_shared<Continuations>(
        recipe, run_.seed(), static_cast<uint64_t>(run_.context().seed_or(recipe.data.seed)),
        models_->source_reader, models_->target_reader);
  }
  FreshItems::Other other;
  if (continuations) other = [continuations](uint64_t n) { return continuations->fresh(n); };
  DistillationData data;
  const auto validation = items_of(ValuePart::kValidation, {}, 0);
  for (int64_t i = 0; i < options.held_out; ++i)
    data.held_out.push_back(validation->item(static_cast<uint64_t>(i)));
  // The control deals a list's sources on; without end there is no next one to take it from.
  const bool endless = options.endless() && !recipe.train.shuffle_pairs;
  const auto fresh = items_of(ValuePart::kTraining, other, options.continuation_share);
  if (endless) {
    data.fresh = fresh;
  } else {
    data.items = make_distillation_items(options, *fresh);
  }
  const size_t asked = data.items.size();
  if (options.continuations > 0)
    add_continuation_items(*continuations, options.continuations, run_.seed(), data.items);
  if (recipe.train.shuffle_pairs) deal_sources_on(data.items);
  run_.folder().remark(cat(
      name(), ": ", endless ? std::string("items drawn without end") : cat(asked, " contexts"),
      " with a question or the beginning of an answer",
      options.continuations > 0 ? cat(", ", data.items.size() - asked, " documents to be continued")
                                : "",
      options.continuation_share > 0
          ? cat(", a share of ", options.continuation_share, " documents to be continued")
          : "",
      "; chosen by ", data.held_out.size(), " of names and values never trained on"));
  return data;
}

}  // namespace

std::unique_ptr<Stage> make_distillation_stage(TrainRun& run) {
  return std::make_unique<DistillationStage>(run);
}

}  // namespace kvlingua
