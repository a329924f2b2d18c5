// Stage: one stage of a training run. TrainRun (train_run.h) finds what is there already and drives
// every stage alike:
//
//   begin    its data, projector and optimizer, from a start or from nothing
//   step     one optimizer step and what is due after it; ridge has one: the pass and its solution
//   validate held-out numbers of the result
//   finish   the stage's line of results and its checkpoint
//
// To add a stage: one file in trainers/stages/ with a class like regression_stage.cpp's and the
// functions that make it and say what it costs, and a row in config/stages.def.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "checkpoints/provenance.h"
#include "kvlingua/config/stages.h"
#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

class TrainRun;

// What a stage begins with: its own unfinished checkpoint (resumed), that of the stage before it or
// of another run, or nothing.
struct StageStart {
  std::optional<Checkpoint> checkpoint;
  std::string where;
  bool resumed = false;
};

class Stage {
 public:
  Stage(TrainRun& run, const char* name) : run_(run), name_(name) {}
  virtual ~Stage() = default;
  const std::string& name() const { return name_; }

  // ---- what it is made from ----
  virtual PairIdentity pair() const = 0;
  virtual std::string data_sha256() const = 0;  // of the pair set or corpus
  // Of the projector that it begins with; empty: none.
  virtual std::string start_sha256() const { return {}; }
  Provenance provenance() const;

  // ---- what it will take; for the table a run starts with ----
  using Line = std::pair<std::string, std::string>;
  virtual std::vector<Line> data_lines() const = 0;  // name, text
  virtual StagePlan plan(const MachineNumbers& machine) const = 0;
  // Of its own, for --json.
  virtual nlohmann::ordered_json plan_facts() const { return nlohmann::ordered_json::object(); }

  // ---- the work ----
  // Where it starts when it has no checkpoint of its own.
  virtual StageStart start() { return {}; }
  virtual void begin(TrainState& state, const StageStart& start) = 0;
  virtual bool step(TrainState& state) = 0;  // false: that was the last
  virtual void validate(TrainState& state) = 0;
  virtual void finish(TrainState& state) = 0;

 protected:
  TrainRun& run_;

 private:
  std::string name_;
};

// What a row of stages.def names: how a stage is made.
using MakeStage = std::unique_ptr<Stage> (*)(TrainRun& run);

}  // namespace kvlingua
