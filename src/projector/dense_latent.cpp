#include "kvlingua/projector/dense_latent.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "kvlingua/kernels/dense.h"
#include "kvlingua/projector/block_linear.h"

namespace kvlingua {
namespace {

constexpr double kOpen = 4;  // sigmoid(4) is .98

}  // namespace

ParameterCount count_parameters(const DenseLatentOptions& options, const KvShape& source,
                                const KvShape& target) {
  const int64_t hidden = options.expansion * target.head_dim,
                heads = std::max<int64_t>(1, source.kv_heads / target.kv_heads);
  return {.over = 2 * target.layers * target.kv_heads *
                  ((heads * source.head_dim + 1) * hidden + (hidden + 1) * target.head_dim + 1)};
}

DenseLatentProjector::DenseLatentProjector(const KvShape& source, const KvShape& target,
                                           const DenseLatentOptions& options)
    : LayerwiseProjector(source, target), options_(options) {
  std::vector<at::Tensor> heads;
  for (int64_t h = 0; h < target.kv_heads; ++h)
    heads.push_back(at::tensor(matched_heads(h, source.kv_heads, target.kv_heads), at::kLong));
  heads_ = at::stack(heads);
  const int64_t networks = target.layers * 2 * target.kv_heads,
                hidden = options.expansion * target.head_dim;
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(options.seed));
  first_ = linear_weights(networks, heads_.size(1) * source.head_dim, hidden, generator);
  first_bias_ = at::zeros({networks, 1, hidden});
  second_ = at::zeros({networks, hidden, target.head_dim});
  second_bias_ = at::zeros({networks, 1, target.head_dim});
  gate_ = at::full({networks, 1, 1}, kOpen);
}

at::Tensor DenseLatentProjector::map(const at::Tensor& source_LN2HD) const {
  const KvShape& t = target_shape();
  const int64_t rows = source_LN2HD.size(1);
  // [Lt, N, 2, Ht * h, Ds] -> [Lt, 2, Ht, N, h Ds] -> one network after the other
  const at::Tensor x = source_LN2HD.index_select(3, heads_.flatten())
                           .view({t.layers, rows, 2, t.kv_heads, -1})
                           .permute({0, 2, 3, 1, 4})
                           .reshape({first_.size(0), rows, -1});
  const at::Tensor hidden = at::gelu(dense_groups(x, first_) + first_bias_);
  const at::Tensor y = at::sigmoid(gate_) * (dense_groups(hidden, second_) + second_bias_);
  return y.view({t.layers, 2, t.kv_heads, rows, t.head_dim}).permute({0, 3, 1, 2, 4});
}

NamedTensors DenseLatentProjector::parameters() const {
  return {{"first.weight", first_},
          {"first.bias", first_bias_},
          {"second.weight", second_},
          {"second.bias", second_bias_},
          {"gate.bias", gate_}};  // a bias by name: it does not decay
}

nlohmann::json DenseLatentProjector::config() const {
  nlohmann::json config = Projector::config();
  config["options"] = {{"expansion", options_.expansion}};
  return config;
}

void DenseLatentProjector::to(at::Device device, at::ScalarType dtype) {
  LayerwiseProjector::to(device, dtype);
  heads_ = heads_.to(device);
  for (at::Tensor* t : {&first_, &first_bias_, &second_, &second_bias_, &gate_})
    *t = t->to(device, dtype);
}

}  // namespace kvlingua
