// mlp: per target layer, and for keys and values apart, a residual network over the ridge map.
//
//   out = ridge(x) + deviation * Wo h_d
//   h_0 = gelu(rms(x_std) Wi + bi)      h_j = h_{j-1} + gelu(rms(h_{j-1}) W_j + b_j)
//
// x_std are the whitened source channels that ridge reads, RMS-normalised per token and group (no
// gain: Wi has it). Wo starts at zero, so an untrained mlp is exactly the ridge map. With rank > 0
// Wi is a product of two thin matrices. All target layers are one batched GEMM per matrix; where
// every group reads all layers the input GEMM is one plain, wide matrix product.
#pragma once

#include <vector>

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {

ParameterCount count_parameters(const RidgeOptions& ridge, const MlpOptions& mlp,
                                const KvShape& source, const KvShape& target);

class MlpProjector : public Projector {
 public:
  // Seeded by `seed`: Wi and W_j uniform in +-1/sqrt(fan_in), biases and Wo zero.
  MlpProjector(const KvShape& source, const KvShape& target, const RidgeOptions& ridge,
               const MlpOptions& mlp, uint64_t seed = 1);
  RidgeProjector& base() { return base_; }
  const RidgeProjector& base() const { return base_; }

  std::string kind() const override { return "mlp"; }
  PreviousTokens previous_tokens() const override { return base_.previous_tokens(); }
  CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                           uint64_t draw = 0) const override;
  // The base's weights are among them ("base.weight"): a trainer may leave them frozen.
  NamedTensors parameters() const override;
  NamedTensors buffers() const override;
  nlohmann::json config() const override;
  void to(at::Device device, at::ScalarType dtype) override;
  at::Device device() const override { return base_.device(); }

 private:
  at::Tensor residual(const at::Tensor& channels_NC) const;  // [N, 2, Lt, Ht, Dt], standardised

  MlpOptions options_;
  RidgeProjector base_;
  // M = 2 * target layers networks.
  at::Tensor in_;  // [groups of the base, F, hidden * networks per group], or the thin left factor
  at::Tensor in_right_;            // rank > 0: [M, rank, hidden]
  at::Tensor in_bias_;             // [M, 1, hidden]
  std::vector<at::Tensor> block_;  // depth - 1 of [M, hidden, hidden]
  std::vector<at::Tensor> block_bias_;
  at::Tensor out_;  // [M, hidden, Ct]
};

}  // namespace kvlingua
