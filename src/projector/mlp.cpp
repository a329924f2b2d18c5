#include "kvlingua/projector/mlp.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "kvlingua/kernels/dense.h"

namespace kvlingua {
namespace {

constexpr double kRmsEpsilon = 1e-6;

at::Tensor rms_normalised(const at::Tensor& x) {
  return x * at::rsqrt(x.to(at::kFloat).square().mean(-1, /*keepdim=*/true) + kRmsEpsilon)
                 .to(x.scalar_type());
}

// nn.Linear's initialisation, one matrix after the other.
at::Tensor uniform(at::IntArrayRef sizes, int64_t fan_in, at::Generator& generator) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  return at::empty(sizes).uniform_(-bound, bound, generator);
}

}  // namespace

ParameterCount count_parameters(const RidgeOptions& ridge, const MlpOptions& mlp,
                                const KvShape& source, const KvShape& target) {
  ParameterCount count = count_parameters(ridge, source, target);
  const BlockPlan plan = ridge_plan(ridge, source, target);
  const int64_t f = plan.in_width(), hidden = mlp.hidden;
  const int64_t networks = plan.dense() ? 2 * target.layers : plan.groups();
  const int64_t first = mlp.rank > 0 ? (f + hidden) * mlp.rank : f * hidden;
  count.over += networks * (first + hidden + (mlp.depth - 1) * (hidden + 1) * hidden) +
                hidden * 2 * target.layers * target.width();
  return count;
}

MlpProjector::MlpProjector(const KvShape& source, const KvShape& target, const RidgeOptions& ridge,
                           const MlpOptions& mlp, uint64_t seed)
    : Projector(source, target), options_(mlp), base_(source, target, ridge) {
  const BlockPlan& plan = base_.plan();
  const int64_t groups = plan.groups(), f = plan.in_width();
  const int64_t networks = plan.dense() ? 2 * target.layers : groups, per_group = networks / groups;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  const int64_t first_width = mlp.rank > 0 ? mlp.rank : mlp.hidden;
  in_ = uniform({groups, f, per_group * first_width}, f, generator);
  if (mlp.rank > 0) in_right_ = uniform({networks, mlp.rank, mlp.hidden}, mlp.rank, generator);
  in_bias_ = at::zeros({networks, 1, mlp.hidden});
  for (int64_t i = 1; i < mlp.depth; ++i) {
    block_.push_back(uniform({networks, mlp.hidden, mlp.hidden}, mlp.hidden, generator));
    block_bias_.push_back(at::zeros({networks, 1, mlp.hidden}));
  }
  out_ = at::zeros({networks, mlp.hidden, 2 * target.layers * target.width() / networks});
}

at::Tensor MlpProjector::residual(const at::Tensor& channels_NC) const {
  const int64_t rows = channels_NC.size(0), networks = out_.size(0);
  const at::Tensor x = rms_normalised(gather_features(base_.plan(), channels_NC));  // [G, N, F]
  // One wide product per group, then one network per target layer: [G, N, (M/G) W] -> [M, N, W].
  at::Tensor h = dense_groups(x, in_)
                     .view({x.size(0), rows, networks / x.size(0), -1})
                     .transpose(1, 2)
                     .reshape({networks, rows, -1});
  h = in_right_.defined() ? dense_groups(h, in_right_) + in_bias_ : h + in_bias_;
  h = at::gelu(h);
  for (size_t i = 0; i < block_.size(); ++i) {
    h = h + at::gelu(dense_groups(rms_normalised(h), block_[i]) + block_bias_[i]);
  }
  if (options_.dropout > 0) h = at::dropout(h, options_.dropout, training());
  const KvShape& t = target_shape();
  return dense_groups(h, out_).transpose(0, 1).reshape({rows, 2, t.layers, t.kv_heads, t.head_dim});
}

CacheRows MlpProjector::translate_rows(const CacheRows& source, const CacheRows*, uint64_t) const {
  const at::Tensor channels = base_.standardised_source(source);
  return base_.destandardised(base_.standardised_output(channels) + residual(channels));
}

NamedTensors MlpProjector::parameters() const {
  NamedTensors all;
  for (const auto& [name, tensor] : base_.parameters()) all.emplace_back("base." + name, tensor);
  all.emplace_back("in.weight", in_);
  if (in_right_.defined()) all.emplace_back("in.right", in_right_);
  all.emplace_back("in.bias", in_bias_);
  for (size_t i = 0; i < block_.size(); ++i) {
    all.emplace_back("block." + std::to_string(i) + ".weight", block_[i]);
    all.emplace_back("block." + std::to_string(i) + ".bias", block_bias_[i]);
  }
  all.emplace_back("out.weight", out_);
  return all;
}

NamedTensors MlpProjector::buffers() const {
  NamedTensors all;
  for (const auto& [name, tensor] : base_.buffers()) all.emplace_back("base." + name, tensor);
  return all;
}

nlohmann::json MlpProjector::config() const {
  nlohmann::json config = Projector::config();
  config["ridge"] = base_.config()["options"];
  config["options"] = {{"hidden", options_.hidden},
                       {"depth", options_.depth},
                       {"rank", options_.rank},
                       {"dropout", options_.dropout}};
  return config;
}

void MlpProjector::to(at::Device device, at::ScalarType dtype) {
  base_.to(device, dtype);
  const auto move = [&](at::Tensor& t) {
    if (t.defined()) t = t.to(device, dtype);
  };
  move(in_);
  move(in_right_);
  move(in_bias_);
  for (auto& t : block_) move(t);
  for (auto& t : block_bias_) move(t);
  move(out_);
}

}  // namespace kvlingua
