// Before a model is loaded: the memory its weights will take in each way they can be held, and
// which of them fits. Exact for what weights take, since it counts the same shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/model/model_config.h"

namespace kvlingua {

struct HeldWeights {
  std::string name;  // "bfloat16", "int8", "nf4"
  WeightFormat format = WeightFormat::kDense;
  bool double_quantization = false;
  int64_t bytes = 0;    // of all weights, as CausalLM::weight_bytes()
  int64_t scratch = 0;  // the floats of the largest product, of what is quantised
};

// `compute_bytes` of one float of the compute type, 4 or 2.
HeldWeights held_weights(const ModelConfig& config, const WeightOptions& options,
                         int64_t compute_bytes, const std::string& compute_name);
// Dense, int8, nf4, nf4 with quantised scales: from the most exact to the smallest.
std::vector<HeldWeights> weights_by_type(const ModelConfig& config, int64_t compute_bytes,
                                         const std::string& compute_name);

// The most exact one that fits beside `others` bytes in `memory`; nullptr: none does.
const HeldWeights* best_fit(const std::vector<HeldWeights>& choices, double others, double memory);
// "nf4 fits: 5.10 GiB of 5.52 GiB; bfloat16 needs 9.40 GiB"
std::string say_what_fits(const std::vector<HeldWeights>& choices, double others, double memory);

}  // namespace kvlingua
