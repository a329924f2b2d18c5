// The plan of a training run: parameters, batch arithmetic, memory and time of every stage,
// computed from shapes. What --dry-run, the startup table and preflight print.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {

// Not preflight's StagePlan: sizes of one stage from shapes alone, as a run prints them when it begins.
struct StageSizes {
  std::string stage;
  std::string unit = "rows";  // target tokens; contexts in distillation
  int64_t steps = 0;
  int64_t rows_per_step = 0;  // of that unit
  int64_t parameters = 0;     // trained
  uint64_t memory_bytes = 0;  // peak of weights, optimizer, sums and activations; 0: not known
  double flops = 0;           // of the whole stage
  uint64_t checkpoint_bytes = 0;
  double rows_per_feature = 0;                                     // ridge
  nlohmann::ordered_json more = nlohmann::ordered_json::object();  // of its own, for JSON
};

// rows: aligned token rows of the training part of the set.
StageSizes ridge_sizes(const Recipe& recipe, const PairIdentity& pair, int64_t rows);
// items: rows or contexts of an epoch.
StageSizes gradient_sizes(const Recipe& recipe, const PairIdentity& pair, const BatchOptions& batch,
                          int64_t items, bool train_base);

// The table a run starts with.
struct TrainPlan {
  std::vector<std::pair<std::string, std::string>> lines;  // name, text
  std::vector<StageSizes> stages;
  double gemm_flops_per_second = 0;
  std::string text() const;
  nlohmann::ordered_json to_json() const;
};

// Optimizer steps of a stage: batch.steps, or what batch.epochs asks for.
int64_t planned_steps(const BatchOptions& batch, int64_t micro_batches_per_epoch);

// float32 matrix products a second of this device, measured for a moment (FLOP/s).
double measure_gemm_rate(const std::string& device);

}  // namespace kvlingua
