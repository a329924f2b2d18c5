// Per-channel mean and standard deviation of both sides of a pair set, and their streaming
// computation.
//
// Whitening with these makes one learning rate and one regularisation strength fit all layers: key
// channels of Qwen2.5 differ in scale by three orders of magnitude. Sums are kept in float64 around
// a running mean (Chan, Golub and LeVeque 1983), so they can be merged in any order and a large
// mean does not cancel a small variance.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlingua/projector/projector.h"

namespace kvlingua {

// mean and deviation of keys (index 0) and values (index 1): [2, layers, kv_heads, head_dim]
// float32.
struct ChannelStatistics {
  at::Tensor mean;
  at::Tensor deviation;  // 1 where a channel never varies

  static ChannelStatistics identity(const KvShape& shape);  // mean 0, deviation 1
  ChannelStatistics to(at::Device device) const { return {mean.to(device), deviation.to(device)}; }
};

class ChannelSums {
 public:
  explicit ChannelSums(const KvShape& shape, at::Device device = at::kCPU);
  void add(const CacheRows& rows);
  void merge(const ChannelSums& other);
  int64_t count() const { return count_; }
  ChannelStatistics statistics() const;

 private:
  int64_t count_ = 0;
  at::Tensor mean_, squares_;  // [2, L, H, D] float64
};

// Deviation from a variance, with channels that never vary (relative to their mean) set to 1.
at::Tensor safe_deviation(const at::Tensor& variance, const at::Tensor& mean);

}  // namespace kvlingua
