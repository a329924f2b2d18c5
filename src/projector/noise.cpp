#include "kvlingua/projector/noise.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include "kvlingua/base/random.h"

namespace kvlingua {

NoiseProjector::NoiseProjector(const KvShape& source, const KvShape& target,
                               const NoiseOptions& options)
    : Projector(source, target), options_(options) {
  mean_ = at::zeros({2, target.layers, target.kv_heads, 1});
  deviation_ = at::ones_like(mean_);
}

void NoiseProjector::set_target_statistics(const ChannelStatistics& statistics) {
  const c10::NoGradGuard no_grad;
  const at::Tensor mean = statistics.mean.to(at::kDouble),
                   variance = statistics.deviation.to(at::kDouble).square();
  const at::Tensor pooled = mean.mean(-1, /*keepdim=*/true);
  const at::Tensor pooled_variance =
      variance.mean(-1, true) + (mean - pooled).square().mean(-1, true);
  mean_.copy_(pooled);
  deviation_.copy_(pooled_variance.sqrt());
}

CacheRows NoiseProjector::translate_rows(const CacheRows& source, const CacheRows*,
                                         uint64_t draw) const {
  check_source(source.shape());
  at::Generator generator =
      at::detail::createCPUGenerator(mix(static_cast<uint64_t>(options_.seed), draw));
  const KvShape& shape = target_shape();
  const at::Tensor white =
      at::randn({2, source.rows(), shape.layers, shape.kv_heads, shape.head_dim}, generator,
                at::TensorOptions().dtype(at::kFloat))
          .to(source.keys_NLHD.device());
  const at::Tensor drawn = white * (deviation_.unsqueeze(1) * options_.scale).to(white.device()) +
                           mean_.unsqueeze(1).to(white.device());
  return {drawn[0], drawn[1]};
}

NamedTensors NoiseProjector::buffers() const {
  return {{"mean", mean_}, {"deviation", deviation_}};
}

nlohmann::json NoiseProjector::config() const {
  nlohmann::json config = Projector::config();
  config["options"] = {{"seed", options_.seed}, {"scale", options_.scale}};
  return config;
}

void NoiseProjector::to(at::Device device, at::ScalarType) {
  mean_ = mean_.to(device);
  deviation_ = deviation_.to(device);
}

}  // namespace kvlingua
