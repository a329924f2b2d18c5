// LossScale: gradients that go through float16 come out as zeros when they are small and as
// infinities when they are large. The loss is multiplied before backward and the gradient divided
// after it; a step whose gradient is not finite is left out and the factor halved; after many that
// are finite it doubles. Numbers and arithmetic are those of torch.amp.GradScaler
// (Micikevicius et al., Mixed Precision Training, arXiv 1710.03740).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

#include "checkpoints/train_state.h"

namespace kvlingua {

class LossScale {
 public:
  static constexpr double kFirst = 65536, kGrowth = 2, kBackoff = 0.5;
  static constexpr int64_t kInterval = 2000;  // finite steps before it grows
  static constexpr double kLeast = 1e-4;      // below it no factor helps

  explicit LossScale(at::Device device);

  // What is called backward() on.
  at::Tensor scaled(const at::Tensor& loss) const;
  // Divides the flat float32 gradient, and sets the factor of the next step. False: the gradient
  // was not finite, and this step is to be left out.
  bool unscale(at::Tensor& gradient);

  double factor() const { return factor_.item<double>(); }
  int64_t skipped() const { return skipped_; }

  // Of a checkpoint.
  LossScaleState state() const;
  void restore(const LossScaleState& state);

 private:
  at::Tensor factor_;  // [1] float32
  at::Tensor finite_;  // [1] int32: steps since it last changed
  int64_t skipped_ = 0;
};

}  // namespace kvlingua
