#include "weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kvlingua/base/error.h"
#include "kvlingua/io/system.h"

namespace kvlingua {
namespace {

// Cuts a fused tensor into views that are leaves of their own.
std::vector<at::Tensor> cut(const at::Tensor& fused, const std::vector<int64_t>& rows) {
  std::vector<at::Tensor> parts;
  if (!fused.defined()) return parts;
  int64_t begin = 0;
  for (const int64_t n : rows) {
    parts.push_back(fused.narrow(0, begin, n).detach());
    begin += n;
  }
  return parts;
}

// Memory for one weight, not yet filled.
at::Tensor room(at::IntArrayRef size, const at::TensorOptions& options) {
  const at::Tensor tensor = at::empty(size, options);
  if (tensor.is_cpu()) prefer_huge_pages(tensor.mutable_data_ptr(), tensor.nbytes());
  return tensor;
}

}  // namespace

at::Tensor LayerWeights::joined(const at::Tensor& fused, const std::vector<at::Tensor>& parts) {
  if (!fused.defined() || !at::GradMode::is_enabled()) return fused;
  for (const at::Tensor& part : parts) {
    if (part.requires_grad()) return at::cat(parts);
  }
  return fused;
}

std::string layer_prefix(int64_t layer) { return cat("model.layers.", layer, "."); }

LayerWeights allocate_layer(const ModelConfig& config, at::Device device, at::ScalarType dtype,
                            NamedTensors& named) {
  const at::NoGradGuard no_grad;
  const auto make = [options = at::TensorOptions().device(device).dtype(dtype)](
                        at::IntArrayRef size) { return room(size, options); };
  const auto name = [&](std::string key, const at::Tensor& t) {
    named.emplace_back(std::move(key), t);
  };
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size,
                dim = config.head_dim;
  const int64_t q = config.num_heads * dim, kv = config.num_kv_heads * dim;
  LayerWeights layer;
  layer.input_norm = make({hidden});
  name("input_layernorm.weight", layer.input_norm);
  layer.qkv = make({q + 2 * kv, hidden});
  layer.qkv_parts = cut(layer.qkv, {q, kv, kv});
  if (config.qkv_bias) layer.qkv_bias = make({q + 2 * kv});
  layer.qkv_bias_parts = cut(layer.qkv_bias, {q, kv, kv});
  const std::string projections[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  for (size_t part = 0; part < 3; ++part) {
    name(projections[part] + ".weight", layer.qkv_parts[part]);
    if (config.qkv_bias) name(projections[part] + ".bias", layer.qkv_bias_parts[part]);
  }
  if (config.qk_norm) {
    name("self_attn.q_norm.weight", layer.q_norm = make({dim}));
    name("self_attn.k_norm.weight", layer.k_norm = make({dim}));
  }
  name("self_attn.o_proj.weight", layer.o = make({hidden, q}));
  if (config.o_bias) name("self_attn.o_proj.bias", layer.o_bias = make({hidden}));
  name("post_attention_layernorm.weight", layer.post_norm = make({hidden}));
  layer.gate_up = make({2 * inner, hidden});
  layer.gate_up_parts = cut(layer.gate_up, {inner, inner});
  if (config.mlp_bias) layer.gate_up_bias = make({2 * inner});
  layer.gate_up_bias_parts = cut(layer.gate_up_bias, {inner, inner});
  const std::string gates[] = {"mlp.gate_proj", "mlp.up_proj"};
  for (size_t part = 0; part < 2; ++part) {
    name(gates[part] + ".weight", layer.gate_up_parts[part]);
    if (config.mlp_bias) name(gates[part] + ".bias", layer.gate_up_bias_parts[part]);
  }
  name("mlp.down_proj.weight", layer.down = make({hidden, inner}));
  if (config.mlp_bias) name("mlp.down_proj.bias", layer.down_bias = make({hidden}));
  return layer;
}

Weights Weights::allocate(const ModelConfig& config, at::Device device, at::ScalarType dtype,
                          bool with_layers) {
  const at::NoGradGuard no_grad;
  const auto make = [options = at::TensorOptions().device(device).dtype(dtype)](
                        at::IntArrayRef size) { return room(size, options); };
  Weights w;
  w.embedding = make({config.vocab_size, config.hidden_size});
  w.named.emplace_back("model.embed_tokens.weight", w.embedding);
  for (int64_t i = 0; with_layers && i < config.num_layers; ++i) {
    NamedTensors of_layer;
    w.layers.push_back(allocate_layer(config, device, dtype, of_layer));
    for (auto& [name, tensor] : of_layer)
      w.named.emplace_back(layer_prefix(i) + name, std::move(tensor));
  }
  w.norm = make({config.hidden_size});
  w.named.emplace_back("model.norm.weight", w.norm);
  w.head = config.tie_word_embeddings ? w.embedding : make({config.vocab_size, config.hidden_size});
  if (!config.tie_word_embeddings) w.named.emplace_back("lm_head.weight", w.head);
  return w;
}

bool Weights::any_requires_grad() const {
  for (const auto& [name, tensor] : named) {
    if (tensor.requires_grad()) return true;
  }
  return false;
}

int64_t Weights::bytes() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : named)
    total += tensor.numel() * static_cast<int64_t>(tensor.element_size());
  return total;
}

void check_config(const ModelConfig& config, const std::string& where) {
  const auto demand = [&](bool good, const char* key, int64_t got, const std::string& expected) {
    if (!good) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat(where, ": ", key),
                   .what = "unusable",
                   .got = cat(got),
                   .expected = expected});
    }
  };
  constexpr int64_t kMost = int64_t{1} << 31;
  const std::pair<const char*, int64_t> sizes[] = {
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_layers},
      {"num_attention_heads", config.num_heads},
      {"num_key_value_heads", config.num_kv_heads},
      {"head_dim", config.head_dim},
      {"max_position_embeddings", config.max_position_embeddings}};
  for (const auto& [key, value] : sizes)
    demand(value > 0 && value < kMost, key, value, "a positive number below 2^31");
  demand(config.num_heads % config.num_kv_heads == 0, "num_key_value_heads", config.num_kv_heads,
         cat("a divisor of num_attention_heads ", config.num_heads));
  demand(config.head_dim % 2 == 0, "head_dim", config.head_dim, "an even number");
  demand(config.rope.head_dim == config.head_dim, "rope head_dim", config.rope.head_dim,
         cat(config.head_dim));
}

}  // namespace kvlingua
