// lcf: after Latent Cache Flow (arXiv 2605.22863): keys and values of a layer translated together
// through one narrow latent, a few per cent of Cache-to-Cache's size.
//
//   latent = gelu([K; V] D + b)      [K; V]: all heads of the source layer, 2 Hs Ds channels
//   [K'; V'] = latent U + c          2 Ht Dt channels
// one pair of matrices a target layer. Keys are un-rotated, channels whitened on both sides, and
// the target's own cache is not read: the paper's translation, without its fusion into a receiver
// that has read the text. U starts at zero: an untrained one predicts the training mean.
#pragma once

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/layerwise.h"

namespace kvlingua {

ParameterCount count_parameters(const LcfOptions& options, const KvShape& source,
                                const KvShape& target);

class LcfProjector : public LayerwiseProjector {
 public:
  LcfProjector(const KvShape& source, const KvShape& target, const LcfOptions& options);
  std::string kind() const override { return "lcf"; }
  NamedTensors parameters() const override;
  nlohmann::json config() const override;
  void to(at::Device device, at::ScalarType dtype) override;

 protected:
  at::Tensor map(const at::Tensor& source_LN2HD) const override;
  at::ScalarType weight_type() const override { return down_.scalar_type(); }

 private:
  LcfOptions options_;
  at::Tensor down_, down_bias_;  // [Lt, 2 Hs Ds, latent], [Lt, 1, latent]
  at::Tensor up_, up_bias_;      // [Lt, latent, 2 Ht Dt], [Lt, 1, 2 Ht Dt]
};

}  // namespace kvlingua
