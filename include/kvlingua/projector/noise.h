// noise: a control. Gaussian keys and values with the target's mean and variance of each layer and
// head (or channel), independent of what the source read. A criterion that noise passes measures
// nothing.
#pragma once

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/statistics.h"

namespace kvlingua {

class NoiseProjector : public Projector {
 public:
  NoiseProjector(const KvShape& source, const KvShape& target, const NoiseOptions& options);
  // From the target's per-channel statistics: pooled over each head's channels (the law of total
  // variance).
  void set_target_statistics(const ChannelStatistics& statistics);

  std::string kind() const override { return "noise"; }
  // Draws come from a generator seeded with (options.seed, draw), on the CPU: the same on every
  // device.
  CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                           uint64_t draw = 0) const override;
  NamedTensors buffers() const override;
  nlohmann::json config() const override;
  void to(at::Device device, at::ScalarType dtype) override;
  at::Device device() const override { return mean_.device(); }

 private:
  NoiseOptions options_;
  at::Tensor mean_, deviation_;  // [2, L, H, 1] float32
};

}  // namespace kvlingua
