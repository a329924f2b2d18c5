// The plan of a training run: parameters, batch arithmetic, memory and time of every stage,
// computed from shapes. What --dry-run, the startup table and preflight print.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "datasets/pairs/pair_schema.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {

// Not preflight's StagePlan: sizes of one stage from shapes alone, as a run prints them when it begins.
struct StageSizes {
  std::string stage;
  int64_t steps = 0;
  int64_t rows_per_step = 0;  // target tokens (rows); contexts in distillation
  int64_t parameters = 0;     // trained
  uint64_t memory_bytes = 0;  // peak of weights, optimizer, sums and activations
  double flops = 0;           // of the whole stage
  double seconds = 0;         // at the measured product rate
  uint64_t checkpoint_bytes = 0;
  double rows_per_feature = 0;  // ridge
};

struct TrainPlan {
  std::vector<StageSizes> stages;
  double gemm_flops_per_second = 0;
  std::string text(const Recipe& recipe, const KvShape& source, const KvShape& target, int64_t rows,
                   const std::string& device) const;
  nlohmann::ordered_json to_json() const;
};

// rows: aligned token rows of the training part of the set.
TrainPlan make_train_plan(const Recipe& recipe, const KvShape& source, const KvShape& target,
                          int64_t rows, const std::vector<std::string>& stages,
                          const std::string& device);

// Optimizer steps of a stage: batch.steps, or what batch.epochs asks for.
int64_t planned_steps(const BatchOptions& batch, int64_t micro_batches_per_epoch);

// float32 matrix products a second of this device, measured for a moment (FLOP/s).
double measure_gemm_rate(const std::string& device);

}  // namespace kvlingua
