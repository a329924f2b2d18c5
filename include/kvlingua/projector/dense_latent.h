// dense_latent: after dense alignment of arXiv 2606.13594: for every layer and KV head of the
// target, and for keys and values apart, a two-layer network over the same head of the source layer
// at the same depth, with a gate; trained by regression first, then by generation.
//
//   y = sigmoid(g) (gelu(x W1 + b1) W2 + b2)      hidden: expansion x the target's head_dim
// Where the models differ in heads, a target head reads the source head(s) at its place
// (BlockPlan's head_matched). Keys are un-rotated, channels whitened on both sides. W2 starts at
// zero: an untrained one predicts the training mean. Gates start near one.
#pragma once

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/layerwise.h"

namespace kvlingua {

ParameterCount count_parameters(const DenseLatentOptions& options, const KvShape& source,
                                const KvShape& target);

class DenseLatentProjector : public LayerwiseProjector {
 public:
  DenseLatentProjector(const KvShape& source, const KvShape& target,
                       const DenseLatentOptions& options);
  std::string kind() const override { return "dense_latent"; }
  NamedTensors parameters() const override;
  nlohmann::json config() const override;
  void to(at::Device device, at::ScalarType dtype) override;

 protected:
  at::Tensor map(const at::Tensor& source_LN2HD) const override;
  at::ScalarType weight_type() const override { return first_.scalar_type(); }

 private:
  DenseLatentOptions options_;
  at::Tensor heads_;                 // [Ht, h] int64: the source heads that a target head reads
  at::Tensor first_, first_bias_;    // G = Lt * 2 * Ht networks: [G, h Ds, hidden], [G, 1, hidden]
  at::Tensor second_, second_bias_;  // [G, hidden, Dt], [G, 1, Dt]
  at::Tensor gate_;                  // [G, 1, 1], before the sigmoid
};

}  // namespace kvlingua
