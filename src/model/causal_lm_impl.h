// What a CausalLM holds; shared by its own sources and by DecodeSession.
#pragma once

#include <string>

#include "kvlingua/model/causal_lm.h"
#include "layer_stream.h"
#include "layers.h"
#include "weights.h"

namespace kvlingua {

struct CausalLM::Impl {
  ModelConfig config;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  WeightFormat format = WeightFormat::kDense;
  Weights weights;                      // without the layers where a stream brings them
  std::unique_ptr<LayerStream> stream;  // of a model whose layers do not fit; else none
  std::string fingerprint;

  // What the frozen pass reads. A stream's layers are valid one at a time.
  FrozenModel frozen_model() const;

  PrefillResult frozen(const PreparedBatch& batch, const KvCache* past,
                       const PrefillOptions& options) const;
  PrefillResult differentiable(const PreparedBatch& batch, const KvCache* past,
                               const PrefillOptions& options) const;
  // hidden [.., hidden] before the final norm -> float32 logits [.., vocab].
  at::Tensor logits(const at::Tensor& hidden) const;
  // The rows of `hidden` where logits are asked for.
  at::Tensor rows_at(const at::Tensor& hidden, const PreparedBatch& batch,
                     const PrefillOptions& options) const;
  // Puts the logits of those rows into `result`, or the rows where options.head_input_only.
  void finish(const at::Tensor& hidden, const PreparedBatch& batch, const PrefillOptions& options,
              PrefillResult& result) const;
};

// Throws Error (kInput) when a cache cannot be this model's past.
void check_past(const KvCache& past, const ModelConfig& config);

// Throws Error (kDevice) when there is no such device.
void check_device(at::Device device);

}  // namespace kvlingua
