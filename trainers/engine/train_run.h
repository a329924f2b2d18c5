// TrainRun: one run of `train`. It puts the stages of a recipe in order, skips what is finished,
// goes on with what was interrupted and drives each stage (stage.h) through the same four steps.
// What stages share (device, seed, processes, folder, meter, the pair set) they get from it.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvlingua/cache/stage_meter.h"
#include "trainers/engine/pace.h"
#include "trainers/engine/pair_data.h"
#include "trainers/engine/peers.h"
#include "trainers/engine/run_folder.h"
#include "trainers/engine/run_table.h"
#include "trainers/engine/stage.h"
#include "trainers/train.h"

namespace kvlingua {

class TrainRun {
 public:
  TrainRun(const Recipe& recipe, const RunContext& context);
  TrainResult execute();

  // ---- what stages use ----
  const Recipe& recipe() const { return recipe_; }
  const RunContext& context() const { return context_; }
  at::Device device() const { return device_; }
  uint64_t seed() const { return seed_; }
  const Peers& peers() const { return peers_; }
  RunFolder& folder() { return folder_; }
  StageMeter& meter() { return *meter_; }
  Pace pace(const std::string& stage) const;  // of a stage of this run's table
  PairData& pairs();                          // opened when first asked for
  // The folder of the newest checkpoint of the stages before `stage`; empty: none.
  std::string earlier_stage(const std::string& stage) const;
  // The folder of the checkpoint that `stage` begins with: of the stage before, or
  // train.start_from; empty: none.
  std::string start_folder(const std::string& stage) const;
  // A checkpoint without an optimizer's state.
  Checkpoint checkpoint_of(const Projector& projector, const TrainState& state,
                           const Stage& stage) const;

 private:
  std::vector<std::string> asked() const;  // names of the stages to run
  RunTable make_table() const;
  // What the stage took, with its share of the device's peak.
  nlohmann::ordered_json took(const std::string& stage) const;
  // Throws Error when a stage that is there, these or one that they begin with, was made from
  // something else.
  void refuse_other_stages();
  void run(Stage& stage);

  const Recipe& recipe_;
  const RunContext& context_;
  at::Device device_;
  uint64_t seed_;
  Peers peers_;
  RunFolder folder_;                 // opened by process 0 alone: it alone writes
  std::optional<StageMeter> meter_;  // of the stage that runs
  RunTable table_;
  std::unique_ptr<PairData> pairs_;
  std::vector<std::unique_ptr<Stage>> stages_;  // each is freed once it has run
};

}  // namespace kvlingua
