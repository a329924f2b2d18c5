#include "kvlingua/cost/numbers.h"

#include <algorithm>

#include "kvlingua/cache/device.h"
#include "kvlingua/model/weight_plan.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

}  // namespace

double ModelNumbers::flops_per_token(double context) const {
  const double body = d(parameters - head_parameters);
  return 2 * body + 2.0 * d(layers * heads * head_dim) * context;  // causal: half of 4 * context
}

double ModelNumbers::activation_bytes(double tokens) const {
  const double widest =
      std::max(3.0 * d(intermediate) + 2.0 * d(hidden),
               d(heads * head_dim) * 3.0 + 4.0 * d(kv_channels()) + 2.0 * d(hidden));
  return tokens * widest * d(compute_bytes);
}

double ModelNumbers::saved_bytes_per_token() const {
  const double layer =
      4.0 * d(hidden) + 3.0 * d(heads * head_dim) + 4.0 * d(kv_channels()) + 4.0 * d(intermediate);
  return layer * d(compute_bytes);
}

ModelNumbers numbers_of(const ModelConfig& c, const ModelOptions& options, int64_t compute_bytes) {
  ModelNumbers n = numbers_of(c.kv_shape());
  n.hidden = c.hidden_size, n.heads = c.num_heads;
  n.intermediate = c.intermediate_size, n.vocab = c.vocab_size;
  n.max_positions = c.max_position_embeddings;
  n.parameters = c.parameter_count();
  n.head_parameters = c.vocab_size * c.hidden_size * (c.tie_word_embeddings ? 1 : 2);
  n.compute_bytes = compute_bytes;
  const HeldWeights held = held_weights(
      c, weight_options(options.weights, options.double_quantization), compute_bytes, "");
  n.held_bytes = held.bytes, n.scratch_bytes = held.scratch;
  return n;
}

int64_t compute_bytes(const ModelOptions& options, at::Device device, int64_t parameters) {
  return static_cast<int64_t>(c10::elementSize(resolve_dtype(options.dtype, device, parameters)));
}

ModelNumbers numbers_of(const KvShape& shape) {
  return {.layers = shape.layers, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim};
}

}  // namespace kvlingua
