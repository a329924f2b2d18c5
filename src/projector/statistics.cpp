#include "kvlingua/projector/statistics.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "kvlingua/base/error.h"

namespace kvlingua {

at::Tensor safe_deviation(const at::Tensor& variance, const at::Tensor& mean) {
  // Below float32's resolution of the mean a "variance" is rounding.
  const at::Tensor floor = mean.square() * 1e-13 + 1e-30;
  return at::where(variance > floor, variance.clamp_min(0).sqrt(), at::ones_like(variance));
}

ChannelStatistics ChannelStatistics::identity(const KvShape& shape) {
  const std::vector<int64_t> sizes{2, shape.layers, shape.kv_heads, shape.head_dim};
  return {at::zeros(sizes), at::ones(sizes)};
}

ChannelSums::ChannelSums(const KvShape& shape, at::Device device) {
  const std::vector<int64_t> sizes{2, shape.layers, shape.kv_heads, shape.head_dim};
  mean_ = at::zeros(sizes, at::device(device).dtype(at::kDouble));
  squares_ = at::zeros_like(mean_);
}

void ChannelSums::add(const CacheRows& rows) {
  if (rows.rows() == 0) return;
  const c10::NoGradGuard no_grad;
  ChannelSums block(rows.shape(), mean_.device());
  block.count_ = rows.rows();
  for (int part = 0; part < 2; ++part) {
    const at::Tensor x =
        (part == 0 ? rows.keys_NLHD : rows.values_NLHD).to(mean_.device(), at::kDouble);
    block.mean_[part].copy_(x.mean(0));
    block.squares_[part].copy_((x - block.mean_[part]).square().sum(0));
  }
  merge(block);
}

void ChannelSums::merge(const ChannelSums& other) {
  if (other.mean_.sizes() != mean_.sizes()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "channel statistics",
                 .what = "sums of two shapes cannot be merged"});
  }
  if (other.count_ == 0) return;
  const double total = static_cast<double>(count_ + other.count_);
  const at::Tensor delta = other.mean_.to(mean_.device()) - mean_;
  squares_ +=
      other.squares_.to(mean_.device()) + delta.square() * (count_ * (other.count_ / total));
  mean_ += delta * (other.count_ / total);
  count_ += other.count_;
}

ChannelStatistics ChannelSums::statistics() const {
  const at::Tensor variance = squares_ / static_cast<double>(std::max<int64_t>(count_, 1));
  return {mean_.to(at::kFloat), safe_deviation(variance, mean_).to(at::kFloat)};
}

}  // namespace kvlingua
