// TrainState: all progress of a training run in one plain struct. What a checkpoint needs besides
// tensors to go on exactly where it stopped; printed as state.json in every checkpoint.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/stage_result.h"

namespace kvlingua {

// Where gradients go through float16 (trainers/engine/loss_scale.h).
struct LossScaleState {
  double factor = 0;
  int64_t finite_steps = 0, skipped = 0;
};

struct TrainState {
  std::string stage;            // its name (config/stages.h)
  bool stage_finished = false;  // nothing left to do in this stage
  int64_t step = 0;             // optimizer steps done in this stage
  int64_t total_steps = 0;      // of this stage, as planned when it began
  int64_t global_step = 0;      // over all stages; numbers the checkpoint folders
  int64_t tokens = 0;           // target tokens (rows) seen in this stage
  double seconds = 0;           // of work in this stage, all runs together

  double first_loss = 0, last_loss = 0;
  // Early stopping; lower is better.
  std::optional<double> best_score;
  int64_t best_step = 0;
  int64_t validations_without_gain = 0;
  // Of the state before the first step, where the stage keeps the best state.
  std::optional<double> start_score, start_r2;
  std::optional<double> rate;  // the peak learning rate that a range test has chosen
  std::optional<LossScaleState> loss_scale;
  // Of a stage that diverged: its result is the best state.
  std::optional<Stopped> stopped;

  nlohmann::json loader = nullptr;              // where the data stream stands; opaque here
  std::optional<ValidationNumbers> validation;  // of the last one
  std::vector<StageResult> results;             // of the stages finished so far
  // What metrics.jsonl held when this was taken; on resume what came after is cut off.
  uint64_t metrics_bytes = 0;

  nlohmann::json to_json() const;
  // Throws Error (kCorrupt) naming `where` and the field.
  static TrainState from_json(const nlohmann::json& j, const std::string& where);
};

}  // namespace kvlingua
