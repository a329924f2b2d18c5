// Learning rate over the steps of a stage: linear warm-up, then constant, linear or cosine.
#pragma once

#include <cstdint>

#include "kvlingua/config/train_options.h"

namespace kvlingua {

// Of optimizer step `step` (from 0) of `total`. Warm-up step i has lr * (i + 1) / warmup; the last
// step ends near lr * final_lr_ratio.
double learning_rate(const OptimizerOptions& options, int64_t step, int64_t total);
int64_t warmup_steps(const OptimizerOptions& options, int64_t total);

// As transformers' get_scheduler counts, which Cache-to-Cache trains with: step 0 has rate 0,
// warm-up is int(ratio * total) steps, "constant" has none.
double transformers_learning_rate(const OptimizerOptions& options, int64_t step, int64_t total);

}  // namespace kvlingua
