// Stage 2: pairs -> projector. One function, from a recipe to checkpoints.
//
//   checkpoints/<run>/step-NNNNNN/   see checkpoints/README.md
//   checkpoints/<run>/recipe.yaml    as it was resolved
//   checkpoints/<run>/metrics.jsonl, timing.jsonl, events/      observer.h
//   checkpoints/<run>/ridge-sums/    sums of the ridge stage, so that more data can be added later
//   checkpoints/<run>/ridge_aligned/ the one-aligned-layer map from the same sums: a control
//
// Stages run in the recipe's order; what is finished is skipped, what was interrupted goes on.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoints/stage_result.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"
#include "trainers/engine/run_table.h"

namespace kvlingua {

struct TrainResult {
  std::vector<StageResult> stages;
  // What a run starts with: pair, geometry, parameters, batch arithmetic, memory, time.
  RunTable table;
  bool dry_run = false;
  // {"stages": [..]}: each as StageResult::to_json(), or, of a dry run, its row of the table.
  nlohmann::ordered_json to_json() const;
  std::string summary() const;  // one line a stage
};

// Throws Error: kUsage (a stage that does not suit the recipe), kInput (no pair set, models that do
// not fit it), kDevice (too little memory), kCorrupt, kDiskFull, kFailed (divergence),
// kTerminated and kInterrupted after saving.
TrainResult train(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua
