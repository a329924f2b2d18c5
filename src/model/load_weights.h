// From files to weights in memory.
#pragma once

#include <string>

#include "kvlingua/model/causal_lm.h"
#include "stored_weights.h"
#include "weights.h"

namespace kvlingua {

// Fills all weights: checked for non-finite values while they are copied, quantised where the
// options ask for it. Throws Error: kInput, kCorrupt.
void load_weights(const StoredWeights& stored, const LoadOptions& options, const Weights& weights);
// One of them. Drops its pages. pinned: on its way to a GPU it goes through pinned memory, which is
// kept for the next.
void load_tensor(const StoredWeights& stored, const std::string& name, const at::Tensor& into,
                 bool pinned = false);
void load_part(const StoredWeights& stored, const std::string& name, const LoadOptions& options,
               QuantizedPart& part);

// What a model's matrices will be held as.
WeightFormat held_format(const ModelConfig& config, const LoadOptions& options);
// The files' hash, behind "nf4-", "nf4-double-", "int8-" or "dense-" when the weights in memory
// are of another format than the files.
std::string held_fingerprint(const StoredWeights& stored, const ModelConfig& config,
                             const LoadOptions& options);

}  // namespace kvlingua
