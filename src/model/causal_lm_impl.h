// What a CausalLM holds; shared by its own sources and by DecodeSession.
#pragma once

#include <string>

#include "kvlingua/model/causal_lm.h"
#include "layers.h"
#include "weights.h"

namespace kvlingua {

struct CausalLM::Impl {
  ModelConfig config;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  Weights weights;
  std::string fingerprint;

  PrefillResult frozen(const PreparedBatch& batch, const KvCache* past, const PrefillOptions& options) const;
  PrefillResult differentiable(const PreparedBatch& batch, const KvCache* past, const PrefillOptions& options) const;
  // hidden [.., hidden] before the final norm -> float32 logits [.., vocab].
  at::Tensor logits(const at::Tensor& hidden) const;
};

// Throws Error (kInput) when a cache cannot be this model's past.
void check_past(const KvCache& past, const ModelConfig& config);

// Throws Error (kDevice) when there is no such device.
void check_device(at::Device device);

// Fills the weights from the safetensors of a directory: checked for names, shapes and non-finite values while they are
// copied. Throws Error: kInput, kCorrupt. Returns the artifact's fingerprint.
std::string load_weights(const std::filesystem::path& directory, const ModelConfig& config, const Weights& weights);

}  // namespace kvlingua
