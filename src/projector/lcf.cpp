#include "kvlingua/projector/lcf.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "kvlingua/kernels/dense.h"

namespace kvlingua {

ParameterCount count_parameters(const LcfOptions& options, const KvShape& source,
                                const KvShape& target) {
  const int64_t latent = options.latent;
  return {.over = target.layers *
                  ((2 * source.width() + 1) * latent + (latent + 1) * 2 * target.width())};
}

LcfProjector::LcfProjector(const KvShape& source, const KvShape& target, const LcfOptions& options)
    : LayerwiseProjector(source, target), options_(options) {
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(options.seed));
  down_ = linear_weights(target.layers, 2 * source.width(), options.latent, generator);
  down_bias_ = at::zeros({target.layers, 1, options.latent});
  up_ = at::zeros({target.layers, options.latent, 2 * target.width()});
  up_bias_ = at::zeros({target.layers, 1, 2 * target.width()});
}

at::Tensor LcfProjector::map(const at::Tensor& source_LN2HD) const {
  const KvShape& t = target_shape();
  const at::Tensor latent = at::gelu(dense_groups(source_LN2HD.flatten(2), down_) + down_bias_);
  return (dense_groups(latent, up_) + up_bias_)
      .view({t.layers, source_LN2HD.size(1), 2, t.kv_heads, t.head_dim});
}

NamedTensors LcfProjector::parameters() const {
  return {
      {"down.weight", down_}, {"down.bias", down_bias_}, {"up.weight", up_}, {"up.bias", up_bias_}};
}

nlohmann::json LcfProjector::config() const {
  nlohmann::json config = Projector::config();
  config["options"] = {{"latent", options_.latent}};
  return config;
}

void LcfProjector::to(at::Device device, at::ScalarType dtype) {
  LayerwiseProjector::to(device, dtype);
  for (at::Tensor* t : {&down_, &down_bias_, &up_, &up_bias_}) *t = t->to(device, dtype);
}

}  // namespace kvlingua
