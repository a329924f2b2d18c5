// What projectors share that read one source layer a target layer and have no closed form: a
// monotone map of depths, channels whitened by statistics of both sides, and a start from them.
//
//   source layer of target layer l:  round(l (Ls - 1) / (Lt - 1))
#pragma once

#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/statistics.h"

namespace kvlingua {

class LayerwiseProjector : public Projector {
 public:
  LayerwiseProjector(const KvShape& source, const KvShape& target);
  // Of training rows. Without it: mean 0 and deviation 1.
  void set_statistics(const ChannelStatistics& source, const ChannelStatistics& target);

  CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                           uint64_t draw = 0) const override;
  NamedTensors buffers() const override;
  void to(at::Device device, at::ScalarType dtype) override;
  at::Device device() const override { return source_.mean.device(); }

 protected:
  // Whitened channels of the source layer of each target layer, [Lt, N, 2 (K, V), Hs, Ds], to
  // whitened channels of the target, [Lt, N, 2, Ht, Dt]; both in the weights' type.
  virtual at::Tensor map(const at::Tensor& source_LN2HD) const = 0;
  virtual at::ScalarType weight_type() const = 0;

 private:
  ChannelStatistics source_, target_;
  at::Tensor layers_;  // [Lt] int64
};

std::vector<int64_t> depth_map(int64_t source_layers, int64_t target_layers);

// nn.Linear's initialisation of `matrices` matrices [in, out] (fan_in is `in`).
at::Tensor linear_weights(int64_t matrices, int64_t in, int64_t out, at::Generator& generator);

}  // namespace kvlingua
