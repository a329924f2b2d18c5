// Stage regression: rows of the pair set through the projector (regression.h).
#include "trainers/engine/gradient_stage.h"
#include "trainers/engine/train_run.h"
#include "trainers/stages/regression.h"

namespace kvlingua {
namespace {

class RegressionStage : public PairStage {
 public:
  explicit RegressionStage(TrainRun& run) : PairStage(run, kRegressionStage) {}

  StageSizes sizes() const override {
    return gradient_sizes(run_.recipe(), run_.pairs().pair(), options().batch,
                          run_.pairs().train_rows(), options().train_base);
  }

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

}  // namespace

std::unique_ptr<Stage> make_regression_stage(TrainRun& run) {
  return std::make_unique<RegressionStage>(run);
}

}  // namespace kvlingua
