// GradientStage: a stage that steps. It joins what a stage trains (projector, objective, options of
// the loop), which its subclass prepares, with Trainer, which steps.
#pragma once

#include <memory>
#include <string>

#include "kvlingua/projector/statistics.h"
#include "trainers/engine/objective.h"
#include "trainers/engine/stage.h"
#include "trainers/engine/trainer.h"

namespace kvlingua {

class GradientStage : public Stage {
 public:
  using Stage::Stage;
  void begin(TrainState& state, const StageStart& start) final;
  bool step(TrainState& state) final { return trainer_->step(state); }
  void validate(TrainState& state) final { trainer_->conclude(state); }
  void finish(TrainState& state) final { trainer_->finish(state); }

 protected:
  // Makes the projector, from `start` or anew, and what it is trained by. torch's generators have
  // just been seeded.
  virtual void prepare(const StageStart& start) = 0;
  virtual Projector& projector() = 0;
  virtual Objective& objective() = 0;
  // optimizer, policy, batch, validations and steps; the rest is the run's.
  virtual TrainerOptions trainer_options() = 0;
  // Before the first step of a run that does not resume: for another program's optimizer state.
  virtual void adopt(Trainer& trainer, TrainState& state) { (void)trainer, (void)state; }

 private:
  std::unique_ptr<Trainer> trainer_;
};

// One that learns from the pair set: it goes on from the stage before it.
class PairStage : public GradientStage {
 public:
  PairStage(TrainRun& run, const char* name);
  PairIdentity pair() const override;
  std::string data_sha256() const override;
  std::string start_sha256() const override;
  std::vector<Line> data_lines() const override;
  StagePlan plan(const MachineNumbers& machine) const override;
  StageStart start() override;

 protected:
  void prepare(const StageStart& start) override;
  Projector& projector() override { return *projector_; }
  Objective& objective() override { return *objective_; }
  // `target`: statistics of the target's channels.
  virtual std::unique_ptr<Objective> make_objective(Projector& projector,
                                                    const ChannelStatistics& target) = 0;

 private:
  std::unique_ptr<Projector> projector_;
  std::unique_ptr<Objective> objective_;
};

// What the options of regression and distillation have in common.
template <class Options>
TrainerOptions loop_options(const Options& from, int64_t micro_batches_per_epoch) {
  TrainerOptions options;
  options.optimizer = from.optimizer;
  options.accumulation = from.batch.accumulation;
  options.total_steps = planned_steps(from.batch, micro_batches_per_epoch);
  options.validate_every = from.validate_every;
  options.patience = from.patience;
  options.train_base = from.train_base;
  return options;
}

}  // namespace kvlingua
