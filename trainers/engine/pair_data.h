// PairData: the pair set of a run, as the stages that learn from pairs share it: rows, statistics,
// what is held out, and the projectors made for its shapes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "checkpoints/checkpoint.h"
#include "datasets/pairs/pair_reader.h"
#include "kvlingua/projector/ridge.h"
#include "kvlingua/projector/statistics.h"
#include "trainers/engine/pair_source.h"
#include "trainers/engine/stage.h"
#include "trainers/engine/validation.h"

namespace kvlingua {

class TrainRun;

class PairData {
 public:
  // Throws Error: kInput (no pair set, or damaged), kUsage (a projector that cannot read it).
  explicit PairData(TrainRun& run);

  const PairSetInfo& info() const { return info_; }
  const KvShape& source_shape() const { return info_.source.shape; }
  const KvShape& target_shape() const { return info_.target.shape; }
  const std::string& sha256() const { return sha256_; }
  const PairIdentity& pair() const { return pair_; }
  int64_t train_rows() const { return train_rows_; }
  // What costs are computed from; shapes alone where a model is not here.
  PlanInputs plan_inputs(const MachineNumbers& machine) const;
  std::vector<Stage::Line> lines() const;  // of the table a run starts with
  // Of the source rows that this recipe's projector reads.
  PreviousTokens previous_tokens() const;

  // `shared`: each process reads its part of every batch; else all read all of it.
  std::unique_ptr<BatchSource> source(LoadUnit unit, LoadUse use, int64_t batch, int64_t epochs,
                                      bool shuffle, bool shared) const;
  // Channel statistics of both sides; only asked for when no ridge stage has gathered them.
  const std::pair<ChannelStatistics, ChannelStatistics>& statistics();
  std::shared_ptr<Validation> validation(const ChannelStatistics& target_statistics);

  // What a stage starts from that has no checkpoint of its own: the newest of an earlier stage, or
  // of another run. Throws Error (kInput) when that is of another pair.
  StageStart previous(const std::string& stage) const;
  std::unique_ptr<Projector> projector_for(const StageStart& start);

 private:
  TrainRun& run_;
  PairSetInfo info_;
  std::string sha256_;
  PairIdentity pair_;
  int64_t train_rows_ = 0, all_rows_ = 0, samples_ = 0, validation_samples_ = 0, row_bytes_ = 0;
  std::shared_ptr<Validation> validation_;
  std::optional<std::pair<ChannelStatistics, ChannelStatistics>> statistics_;
};

// The linear map inside a projector; null when there is none.
RidgeProjector* base_of(Projector& projector);

constexpr int64_t kRidgeBlock = 4096;  // rows of a pass over all data

}  // namespace kvlingua
