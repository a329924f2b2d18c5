#include "kvlingua/projector/layerwise.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace kvlingua {

std::vector<int64_t> depth_map(int64_t source_layers, int64_t target_layers) {
  std::vector<int64_t> layers;
  const auto last = static_cast<double>(target_layers - 1);
  for (int64_t l = 0; l < target_layers; ++l) {
    const double depth = target_layers > 1 ? static_cast<double>(l) / last : 0;
    layers.push_back(std::llround(depth * static_cast<double>(source_layers - 1)));
  }
  return layers;
}

at::Tensor linear_weights(int64_t matrices, int64_t in, int64_t out, at::Generator& generator) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  return at::empty({matrices, in, out}).uniform_(-bound, bound, generator);
}

LayerwiseProjector::LayerwiseProjector(const KvShape& source, const KvShape& target)
    : Projector(source, target),
      source_(ChannelStatistics::identity(source)),
      target_(ChannelStatistics::identity(target)),
      layers_(at::tensor(depth_map(source.layers, target.layers), at::kLong)) {}

void LayerwiseProjector::set_statistics(const ChannelStatistics& source,
                                        const ChannelStatistics& target) {
  const c10::NoGradGuard no_grad;
  source_.mean.copy_(source.mean);
  source_.deviation.copy_(source.deviation);
  target_.mean.copy_(target.mean);
  target_.deviation.copy_(target.deviation);
}

CacheRows LayerwiseProjector::translate_rows(const CacheRows& source, const CacheRows*,
                                             uint64_t) const {
  check_rows(source.shape());
  const at::Tensor raw = at::stack({source.keys_NLHD, source.values_NLHD}, 1).to(at::kFloat);
  const at::Tensor whitened = (raw - source_.mean) / source_.deviation;  // [N, 2, Ls, Hs, Ds]
  const at::Tensor read =
      whitened.index_select(2, layers_).permute({2, 0, 1, 3, 4}).to(weight_type());
  const at::Tensor y = map(read).to(at::kFloat).permute({1, 2, 0, 3, 4});  // [N, 2, Lt, Ht, Dt]
  const at::Tensor all = at::addcmul(target_.mean, y, target_.deviation);
  return {all.select(1, 0), all.select(1, 1)};
}

NamedTensors LayerwiseProjector::buffers() const {
  return {{"source_mean", source_.mean},
          {"source_deviation", source_.deviation},
          {"target_mean", target_.mean},
          {"target_deviation", target_.deviation}};
}

void LayerwiseProjector::to(at::Device device, at::ScalarType) {
  source_ = source_.to(device);
  target_ = target_.to(device);
  layers_ = layers_.to(device);
}

}  // namespace kvlingua
