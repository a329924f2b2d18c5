#include "trainers/engine/loss_scale.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace kvlingua {

LossScale::LossScale(at::Device device)
    : factor_(at::full({1}, kFirst, at::TensorOptions(device).dtype(at::kFloat))),
      finite_(at::zeros({1}, at::TensorOptions(device).dtype(at::kInt))) {}

at::Tensor LossScale::scaled(const at::Tensor& loss) const {
  return loss.to(at::kFloat) * factor_.squeeze(0);
}

bool LossScale::unscale(at::Tensor& gradient) {
  const c10::NoGradGuard no_grad;
  at::Tensor found = at::zeros({1}, factor_.options());
  at::_amp_foreach_non_finite_check_and_unscale_(
      {gradient}, found, factor_.to(at::kDouble).reciprocal().to(at::kFloat));
  at::_amp_update_scale_(factor_, finite_, found, kGrowth, kBackoff, kInterval);
  const bool finite = found.item<float>() == 0;
  if (!finite) ++skipped_;
  return finite;
}

LossScaleState LossScale::state() const {
  return {.factor = factor(), .finite_steps = finite_.item<int64_t>(), .skipped = skipped_};
}

void LossScale::restore(const LossScaleState& state) {
  factor_.fill_(state.factor);
  finite_.fill_(state.finite_steps);
  skipped_ = state.skipped;
}

}  // namespace kvlingua
