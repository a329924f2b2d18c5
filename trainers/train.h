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

#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua {

struct TrainResult {
  // One object a stage: stage, steps, tokens, seconds, tokens_per_second, first_loss, last_loss,
  // validation, checkpoint; of a stage that ran just now also total_seconds, peak_memory_bytes and
  // phases (stage_meter.h).
  nlohmann::ordered_json stages = nlohmann::ordered_json::array();
  // The table a run starts with: pair, geometry, parameters, batch arithmetic, memory, time.
  std::string plan;
  bool dry_run = false;
  nlohmann::ordered_json to_json() const;
  std::string summary() const;  // one line a stage
};

// Throws Error: kUsage (a stage that does not suit the recipe), kInput (no pair set, models that do
// not fit it), kDevice (too little memory), kCorrupt, kDiskFull, kFailed (divergence),
// kTerminated and kInterrupted after saving.
TrainResult train(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua
