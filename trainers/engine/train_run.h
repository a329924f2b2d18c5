// TrainRun: one run of `train`; what its stages share, and one function a stage. Internal to
// train().
//
//   train.cpp           the order of stages, what is finished, what is reported
//   train_inputs.cpp    what a stage starts from: data, statistics, projector, validation
//   train_ridge.cpp     the ridge stage
//   train_gradient.cpp  the stages that step: regression, distillation
#pragma once

#include <c10/core/Device.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "datasets/pairs/pair_reader.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/projector/mlp.h"
#include "kvlingua/projector/ridge.h"
#include "kvlingua/projector/statistics.h"
#include "trainers/engine/objective.h"
#include "trainers/engine/pair_source.h"
#include "trainers/engine/peers.h"
#include "trainers/engine/run_folder.h"
#include "trainers/engine/trainer.h"
#include "trainers/engine/validation.h"
#include "trainers/stages/distillation.h"
#include "trainers/stages/frozen_models.h"
#include "trainers/stages/ridge_fit.h"
#include "trainers/train.h"

namespace kvlingua {

class TrainRun {
 public:
  TrainRun(const Recipe& recipe, const RunContext& context);
  TrainResult execute();

 private:
  void ridge(TrainState state);
  void gradient(TrainState state, const std::optional<Checkpoint>& resumed,
                const std::string& where);

  std::vector<std::string> stages() const;
  // Of the source rows that this recipe's projector reads.
  int64_t previous_tokens() const;
  std::optional<Checkpoint> previous(const std::string& stage, std::string& where);
  // What `stage` would be made from now; `before`: the checkpoint it would begin with.
  Provenance provenance(const std::string& stage, const std::string& before) const;
  // The folder of the checkpoint that `stage` begins with: of the stage before, or train.start_from;
  // empty: none.
  std::string start_folder(const std::string& stage) const;
  // Throws Error when a stage that is there, these or one that they begin with, was made from
  // something else.
  void refuse_other_stages() const;
  std::unique_ptr<Projector> projector_for(const std::optional<Checkpoint>& from,
                                           const std::string& where);
  std::unique_ptr<Objective> objective_for(const std::string& stage, Projector& projector);
  std::shared_ptr<Validation> validation(const ChannelStatistics& statistics);
  const std::pair<ChannelStatistics, ChannelStatistics>& statistics();
  TrainerOptions trainer_options(const std::string& stage, const Objective& objective) const;
  const FrozenModels& frozen_models();
  DistillationData distillation_data(const DistillationOptions& options, const FrozenModels& models,
                                     AlignmentKind alignment) const;
  void report_rows(const RidgeSolution& solution, TrainState& state) const;
  void add_earlier(RidgeSumsPair& sums) const;
  double keep_sums(const RidgeSumsPair& sums);
  void save_control(const RidgeSumsPair& sums);
  Checkpoint checkpoint_of(const Projector& projector, const TrainState& state) const;
  std::unique_ptr<BatchSource> source(LoadUnit unit, LoadUse use, int64_t batch, int64_t epochs,
                                      bool shuffle, bool shared) const;

  const Recipe& recipe_;
  const RunContext& context_;
  PairSetInfo info_;
  std::string pairs_sha256_;
  int64_t train_rows_ = 0, validation_samples_ = 0, row_bytes_ = 0;
  PairIdentity pair_;
  at::Device device_;
  uint64_t seed_;
  Peers peers_;
  RunFolder folder_;  // opened by process 0 alone: it alone writes
  std::shared_ptr<Validation> validation_;
  std::optional<StageMeter> meter_;  // of the stage that runs
  std::unique_ptr<FrozenModels> models_;
  std::optional<std::pair<ChannelStatistics, ChannelStatistics>> statistics_;
};

// The linear map inside a projector; null when there is none.
RidgeProjector* base_of(Projector& projector);

constexpr int64_t kRidgeBlock = 4096;  // rows of a pass over all data

}  // namespace kvlingua
