// The weights of a decoder in memory: products that read the same input are stored as one matrix,
// and Hugging Face's parameters are views of them.
//
// Each view is an autograd leaf of its own, so a trainer can set requires_grad on it and an
// optimiser can update it in place; frozen inference reads the fused matrix. Both see the same
// memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "kvlingua/model/model_config.h"
#include "matrix.h"

namespace kvlingua {

struct LayerWeights {
  at::Tensor input_norm, post_norm;  // [hidden]
  Matrix qkv;                        // [(heads + 2 kv_heads) * head_dim, hidden]: rows of q, k, v
  at::Tensor qkv_bias;               // or undefined, as every bias and per-head norm below
  at::Tensor q_norm, k_norm;         // [head_dim]
  Matrix o;                          // [hidden, heads * head_dim]
  Matrix gate_up;                    // [2 intermediate, hidden]: rows of gate, up
  Matrix down;                       // [hidden, intermediate]
  at::Tensor o_bias, gate_up_bias, down_bias;
  // Views of the fused ones; none of quantised matrices.
  std::vector<at::Tensor> qkv_parts, qkv_bias_parts, gate_up_parts, gate_up_bias_parts;

  // The fused tensor, or for training a concatenation that autograd can follow to the views.
  static at::Tensor joined(const at::Tensor& fused, const std::vector<at::Tensor>& parts);
  static Matrix joined(const Matrix& fused, const std::vector<at::Tensor>& parts);
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
using NamedParts = std::vector<std::pair<std::string, std::shared_ptr<QuantizedPart>>>;

struct WeightLayout {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  WeightFormat format = WeightFormat::kDense;
  std::shared_ptr<Scratch> scratch;  // of quantised matrices
};

// One layer, uninitialised; quantised matrices have parts without codes. `named` and `parts` get
// its parameters with Hugging Face's names behind layer_prefix().
LayerWeights allocate_layer(const ModelConfig& config, const WeightLayout& layout,
                            NamedTensors& named, NamedParts& parts);
std::string layer_prefix(int64_t layer);  // "model.layers.3."

struct Weights {
  at::Tensor embedding;  // [vocab, hidden]
  at::Tensor norm;       // [hidden]
  at::Tensor head;       // [vocab, hidden]; the same tensor as embedding when tied
  std::vector<LayerWeights> layers;
  // Hugging Face's names in the order of the file; a tied head is not listed.
  NamedTensors named;
  NamedParts parts;  // of quantised matrices

  // Uninitialised memory at the config's shapes; without the layers where a LayerStream brings
  // them.
  static Weights allocate(const ModelConfig& config, const WeightLayout& layout,
                          bool with_layers = true);
  bool any_requires_grad() const;
  int64_t bytes() const;
};

// A config that can be computed with: positive sizes, heads a multiple of kv_heads, even head_dim,
// no overflow. Throws Error (kInput) naming the key.
void check_config(const ModelConfig& config, const std::string& where);

}  // namespace kvlingua
