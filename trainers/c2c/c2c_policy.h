// How Cache-to-Cache's program uses AdamW (transformers' Trainer habits, arXiv 2510.03215's code):
// its schedule counts from 0, and weight decay is on everything, biases, norms and gates too.
#pragma once

#include "trainers/engine/optimizer_policy.h"

namespace kvlingua {

// low_precision_weights: bfloat16 weights without a float32 master copy, as that program's.
inline OptimizerPolicy c2c_policy(bool low_precision_weights = false) {
  return {.rate = transformers_learning_rate,
          .decays = [](const std::string&) { return true; },
          .master_copy = !low_precision_weights};
}

}  // namespace kvlingua
