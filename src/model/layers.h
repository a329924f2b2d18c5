// The decoder layers, twice: frozen (no gradient; fused kernels, new keys and values written in
// place) and differentiable (plain or custom autograd operations). Both compute the same function;
// tests hold them to it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "batch.h"
#include "kvlingua/model/model_config.h"
#include "weights.h"

namespace kvlingua {

// Attention of q [B, Hq, T, D] over k, v [B, H, S, D]; gives [B, T, Hq * D].
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionFrame& frame);

// Per-layer tensors kept on request; each [B, Hq, T, D] (hidden: [B, T, hidden], the embedding
// first).
struct Captured {
  bool queries = false, attention_outputs = false, hidden = false;
  std::vector<at::Tensor> query_layers, attention_layers, hidden_layers;
  bool any() const { return queries || attention_outputs || hidden; }
};

// ---- frozen ----

// Where one layer's keys and values lie: `joint` [B, H, S + T, D] holds the past in front and
// receives the new tokens.
struct JointKv {
  at::Tensor keys, values;
};

enum class Rows {
  kNone,  // only keys and values are wanted: the last layer stops there
  kLast,  // one row of the batch's last real token each
  kAll
};

struct FrozenModel {
  const ModelConfig& config;
  const at::Tensor& embedding;
  std::function<const LayerWeights&(int64_t)> layer;  // called once a layer, in order
};

// Runs all layers; `joint(layer)` gives that layer's storage and `done(layer)` is called when it is
// filled and read. Returns the residual stream before the final norm: undefined, [B, 1, hidden] or
// [B, T, hidden] as `rows` says.
at::Tensor run_frozen(const FrozenModel& model, const PreparedBatch& batch, Rows rows,
                      const std::function<JointKv(int64_t)>& joint,
                      const std::function<void(int64_t)>& done, Captured& captured);

// ---- differentiable ----

struct LayerOutput {
  at::Tensor hidden;             // [B, T, hidden]
  at::Tensor keys, values;       // of the new tokens [B, H, T, D]
  at::Tensor queries, attended;  // [B, Hq, T, D]
};

// past_keys, past_values [B, H, S, D] or undefined; [B, H, S + T, D] with frame.given.
LayerOutput differentiable_layer(const ModelConfig& config, const LayerWeights& weights,
                                 const AttentionFrame& frame, const at::Tensor& hidden,
                                 const at::Tensor& past_keys, const at::Tensor& past_values);

// The same, keeping only its inputs; backward computes the layer once more (Chen et al. 2016).
LayerOutput checkpointed_layer(const ModelConfig& config, const LayerWeights& weights,
                               const AttentionFrame& frame, const at::Tensor& hidden,
                               const at::Tensor& past_keys, const at::Tensor& past_values);

}  // namespace kvlingua
