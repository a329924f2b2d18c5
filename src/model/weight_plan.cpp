#include "kvlingua/model/weight_plan.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/kernels/quantized.h"
#include "weights.h"

namespace kvlingua {
namespace {

int64_t quantized_bytes(WeightFormat format, bool nested, int64_t rows, int64_t columns) {
  constexpr int64_t kFloat = 4, kNestedMap = 256 * kFloat;
  const int64_t n = rows * columns;
  if (format == WeightFormat::kInt8) return n + rows * kFloat;
  const int64_t blocks = (n + kNf4Block - 1) / kNf4Block;
  const int64_t scales =
      nested ? blocks + (blocks + kNestedBlock - 1) / kNestedBlock * kFloat + kNestedMap
             : blocks * kFloat;
  return (n + 1) / 2 + scales;
}

// A product's matrix is those that read the same input, together.
int64_t largest_product(const ModelConfig& c) {
  const int64_t attention = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim;
  return c.hidden_size * std::max({attention, 2 * c.intermediate_size, c.num_heads * c.head_dim});
}

}  // namespace

HeldWeights held_weights(const ModelConfig& config, const WeightOptions& options,
                         int64_t compute_bytes, const std::string& compute_name) {
  HeldWeights held;
  held.format = options.format.value_or(config.stored);
  held.double_quantization = held.format == WeightFormat::kNf4 && options.double_quantization;
  const Weights shapes = Weights::allocate(config, {.device = at::kMeta, .format = held.format});
  for (const auto& [name, tensor] : shapes.named) held.bytes += tensor.numel() * compute_bytes;
  for (const auto& [name, part] : shapes.parts)
    held.bytes += quantized_bytes(held.format, held.double_quantization, part->rows, part->columns);
  if (held.format == WeightFormat::kDense) {
    held.name = compute_name;
  } else {
    held.name = cat(to_string(held.format), held.double_quantization ? " (double)" : "");
    held.scratch = largest_product(config) * compute_bytes;
  }
  return held;
}

std::vector<HeldWeights> weights_by_type(const ModelConfig& config, int64_t compute_bytes,
                                         const std::string& compute_name) {
  std::vector<HeldWeights> all;
  for (const auto& [format, nested] :
       {std::pair(WeightFormat::kDense, false), std::pair(WeightFormat::kInt8, false),
        std::pair(WeightFormat::kNf4, false), std::pair(WeightFormat::kNf4, true)})
    all.push_back(held_weights(config, {format, nested}, compute_bytes, compute_name));
  return all;
}

const HeldWeights* best_fit(const std::vector<HeldWeights>& choices, double others, double memory) {
  const auto fits = std::ranges::find_if(choices, [&](const HeldWeights& held) {
    return static_cast<double>(held.bytes + held.scratch) + others <= memory;
  });
  return fits == choices.end() ? nullptr : &*fits;
}

std::string say_what_fits(const std::vector<HeldWeights>& choices, double others, double memory) {
  const auto all_of = [&](const HeldWeights& held) {
    return bytes_text(static_cast<double>(held.bytes + held.scratch) + others);
  };
  const HeldWeights* best = best_fit(choices, others, memory);
  std::string text = best != nullptr
                         ? cat(best->name, " fits: ", all_of(*best), " of ", bytes_text(memory))
                         : cat("nothing fits ", bytes_text(memory));
  for (const HeldWeights& held : choices) {
    if (&held == best) break;
    text += cat("; ", held.name, " needs ", all_of(held));
  }
  return text;
}

}  // namespace kvlingua
