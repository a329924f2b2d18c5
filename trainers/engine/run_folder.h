// RunFolder: what every training run does around its steps. It opens the run's folder (one process
// at a time), names what it does to the observers, finds the stages that are finished or begun, and
// keeps the result line of each. Format of the folder: checkpoints/README.md.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/provenance.h"
#include "checkpoints/store.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"
#include "trainers/engine/observer.h"
#include "trainers/engine/peers.h"

namespace kvlingua {

class RunFolder {
 public:
  RunFolder(const Recipe& recipe, const RunContext& context) : recipe_(recipe), context_(context) {}

  // Takes the folder's lock; with --restart removes the checkpoints of these stages (none named: of
  // all). Throws Error when another process trains there. Without this call (other processes of a
  // run) nothing is written.
  void open(const std::vector<std::string>& stages);
  // Attaches the observers: what is there fits the recipe.
  void begin();
  // Throws Error (kInput) naming the field that differs when this checkpoint was made from another
  // recipe, other pairs or another start than `asked`.
  void refuse_other(const Checkpoint& checkpoint, const std::string& where,
                    const Provenance& asked) const;
  void remark(const std::string& lines) const;
  // The newest whole checkpoint of a stage as process 0 finds it, empty when there is none; warns
  // of the damaged ones that it passes over.
  std::string find(const std::string& stage, const Peers& peers) const;
  // Warns where the recipe is another one than when this stage began.
  void resume(const Checkpoint& from, const std::string& where) const;
  // Adds the result of a finished stage to `state` and to those of this run.
  void finish(TrainState& state);
  // The same of a stage that was finished before.
  void adopt(const Checkpoint& finished, const std::string& where);
  // Adds to the last finished stage what it took (stage_meter.h).
  void measured(const nlohmann::ordered_json& took);
  // Writes a checkpoint, in the background where nothing waits for it; returns its folder. The
  // first one writes recipe.yaml too, so that it is always of something that was trained.
  std::string save(const Checkpoint& checkpoint);

  void wait();  // for checkpoints that are being written
  Observers& observers() { return observers_; }
  const std::vector<StageResult>& results() const { return results_; }

 private:
  const Recipe& recipe_;
  const RunContext& context_;
  std::unique_ptr<CheckpointStore> store_;
  Observers observers_;
  std::vector<StageResult> results_;
  bool recipe_written_ = false;
};

}  // namespace kvlingua
