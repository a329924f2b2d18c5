#include "trainers/engine/gradient_stage.h"

#include <ATen/ATen.h>

#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "trainers/engine/train_run.h"
#include "trainers/stages.h"

namespace kvlingua {

void GradientStage::begin(TrainState& state, const StageStart& start) {
  if (!start.resumed && start.checkpoint) {
    state.global_step = start.checkpoint->state.global_step;
    state.results = start.checkpoint->state.results;
    state.metrics_bytes = start.checkpoint->state.metrics_bytes;
  }
  at::manual_seed(mix(run_.seed(), hash_name(name())));
  prepare(start);
  TrainerOptions options = trainer_options();
  options.save_every = run_.recipe().checkpoint.every;
  options.log_every = run_.recipe().train.log_every;
  options.peers = run_.peers();
  options.meter = &run_.meter();
  options.pace = run_.pace(name());
  if (start.resumed && state.total_steps != options.total_steps) {
    log_warning(cat(name(), ": planned for ", state.total_steps, " steps when it began, now for ",
                    options.total_steps));
  }
  state.total_steps = options.total_steps;
  RunFolder& folder = run_.folder();
  const nlohmann::json made_by = provenance().to_json();
  const std::string recipe_yaml = run_.recipe().to_yaml();
  trainer_ = std::make_unique<Trainer>(projector(), objective(), options, folder.observers(),
                                       [this, &folder, made_by, recipe_yaml](const Checkpoint& c) {
                                         Checkpoint checkpoint = c;
                                         checkpoint.made_by = made_by;
                                         if (checkpoint.state.stage_finished)
                                           folder.finish(checkpoint.state);
                                         checkpoint.pair = pair();
                                         checkpoint.recipe_yaml = recipe_yaml;
                                         return folder.save(checkpoint);
                                       });
  if (start.resumed) {
    trainer_->resume(*start.checkpoint, start.where);
  } else {
    trainer_->set_last_good(start.where);
    adopt(*trainer_, state);
  }
  for (auto& observer : folder.observers()) observer->begin(state, start.checkpoint.has_value());
  int64_t trained = 0;
  for (const auto& [parameter, tensor] : trainable_parameters(projector(), options.train_base))
    trained += tensor.numel();
  folder.remark(cat(name(), ": ", options.total_steps, " steps, ", trained, " of ",
                    projector().parameter_count(), " parameters"));
  trainer_->start(state);
}

PairStage::PairStage(TrainRun& run, const char* name) : GradientStage(run, name) { run.pairs(); }

PairIdentity PairStage::pair() const { return run_.pairs().pair(); }
std::string PairStage::data_sha256() const { return run_.pairs().sha256(); }

std::string PairStage::start_sha256() const {
  const std::string folder = run_.start_folder(name());
  return folder.empty() ? "" : projector_sha256(folder);
}

std::vector<Stage::Line> PairStage::data_lines() const { return run_.pairs().lines(); }

StagePlan PairStage::plan(const MachineNumbers& machine) const {
  return cost_of(name()).plan(run_.pairs().plan_inputs(machine));
}

StageStart PairStage::start() { return run_.pairs().previous(name()); }

void PairStage::prepare(const StageStart& start) {
  PairData& pairs = run_.pairs();
  projector_ = pairs.projector_for(start);
  const RidgeProjector* base = base_of(*projector_);
  objective_ = make_objective(
      *projector_, base != nullptr ? base->target_statistics() : pairs.statistics().second);
}

}  // namespace kvlingua
