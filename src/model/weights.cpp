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

Matrix LayerWeights::joined(const Matrix& fused, const std::vector<at::Tensor>& parts) {
  return fused.quantized() ? fused : Matrix(joined(fused.dense(), parts));
}

std::string layer_prefix(int64_t layer) { return cat("model.layers.", layer, "."); }

namespace {

// Gives a layer's tensors memory and names.
class LayerBuilder {
 public:
  LayerBuilder(const WeightLayout& layout, NamedTensors& named, NamedParts& parts)
      : layout_(layout), named_(named), parts_(parts) {}

  at::Tensor make(at::IntArrayRef size) const {
    return room(size, at::TensorOptions().device(layout_.device).dtype(layout_.dtype));
  }
  at::Tensor vector(const std::string& name, int64_t n) {
    named_.emplace_back(name, make({n}));
    return named_.back().second;
  }
  // Projections that read the same input, as one matrix; views of it and of its bias.
  Matrix matrix(const std::vector<std::pair<std::string, int64_t>>& projections, int64_t columns,
                bool with_bias, std::vector<at::Tensor>* weight_views, at::Tensor& bias,
                std::vector<at::Tensor>* bias_views) {
    std::vector<int64_t> rows;
    int64_t total = 0;
    for (const auto& [name, n] : projections) rows.push_back(n), total += n;
    if (with_bias) bias = make({total});
    Matrix made;
    std::vector<at::Tensor> views;
    if (layout_.format == WeightFormat::kDense) {
      made = make({total, columns});
      views = cut(made.dense(), rows);
    }
    const std::vector<at::Tensor> of_bias = cut(bias, rows);
    Matrix::Parts quantized;
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto& name = projections[i].first;
      if (made.dense().defined()) {
        named_.emplace_back(name + ".weight", weight_views == nullptr ? made.dense() : views[i]);
      } else {
        quantized.push_back(std::make_shared<QuantizedPart>());
        quantized.back()->format = layout_.format;
        quantized.back()->rows = rows[i];
        quantized.back()->columns = columns;
        parts_.emplace_back(name + ".weight", quantized.back());
      }
      if (with_bias) named_.emplace_back(name + ".bias", bias_views == nullptr ? bias : of_bias[i]);
    }
    if (weight_views != nullptr) *weight_views = views;
    if (bias_views != nullptr) *bias_views = of_bias;
    return made.dense().defined() ? made : Matrix(std::move(quantized), layout_.scratch);
  }

 private:
  const WeightLayout& layout_;
  NamedTensors& named_;
  NamedParts& parts_;
};

}  // namespace

LayerWeights allocate_layer(const ModelConfig& config, const WeightLayout& layout,
                            NamedTensors& named, NamedParts& parts) {
  const at::NoGradGuard no_grad;
  LayerBuilder build(layout, named, parts);
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size,
                dim = config.head_dim;
  const int64_t q = config.num_heads * dim, kv = config.num_kv_heads * dim;
  LayerWeights layer;
  layer.input_norm = build.vector("input_layernorm.weight", hidden);
  layer.qkv = build.matrix(
      {{"self_attn.q_proj", q}, {"self_attn.k_proj", kv}, {"self_attn.v_proj", kv}}, hidden,
      config.qkv_bias, &layer.qkv_parts, layer.qkv_bias, &layer.qkv_bias_parts);
  if (config.qk_norm) {
    layer.q_norm = build.vector("self_attn.q_norm.weight", dim);
    layer.k_norm = build.vector("self_attn.k_norm.weight", dim);
  }
  layer.o = build.matrix({{"self_attn.o_proj", hidden}}, q, config.o_bias, nullptr, layer.o_bias,
                         nullptr);
  layer.post_norm = build.vector("post_attention_layernorm.weight", hidden);
  layer.gate_up =
      build.matrix({{"mlp.gate_proj", inner}, {"mlp.up_proj", inner}}, hidden, config.mlp_bias,
                   &layer.gate_up_parts, layer.gate_up_bias, &layer.gate_up_bias_parts);
  layer.down = build.matrix({{"mlp.down_proj", hidden}}, inner, config.mlp_bias, nullptr,
                            layer.down_bias, nullptr);
  return layer;
}

Weights Weights::allocate(const ModelConfig& config, const WeightLayout& layout, bool with_layers) {
  const at::NoGradGuard no_grad;
  const auto make = [options = at::TensorOptions().device(layout.device).dtype(layout.dtype)](
                        at::IntArrayRef size) { return room(size, options); };
  Weights w;
  w.embedding = make({config.vocab_size, config.hidden_size});
  w.named.emplace_back("model.embed_tokens.weight", w.embedding);
  for (int64_t i = 0; with_layers && i < config.num_layers; ++i) {
    NamedTensors of_layer;
    NamedParts parts_of_layer;
    w.layers.push_back(allocate_layer(config, layout, of_layer, parts_of_layer));
    for (auto& [name, tensor] : of_layer)
      w.named.emplace_back(layer_prefix(i) + name, std::move(tensor));
    for (auto& [name, part] : parts_of_layer)
      w.parts.emplace_back(layer_prefix(i) + name, std::move(part));
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
  for (const auto& [name, part] : parts) total += part->bytes();
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
