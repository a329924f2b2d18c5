#include "trainers/engine/peers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace kvlingua {

Peers::Peers(const RunContext& context) {
  if (context.world.alone()) return;
  group_ = ProcessGroup::join(
      {.world = context.world, .folder = context.paths.run, .device = at::Device(context.device)});
}

void Peers::sum(at::Tensor& tensor) const {
  if (!alone()) group_->sum(tensor);
}

void Peers::mean(at::Tensor& tensor) const {
  if (alone()) return;
  sum(tensor);
  const c10::NoGradGuard no_grad;
  tensor.div_(static_cast<double>(size()));
}

void Peers::broadcast(const at::Tensor& tensor) const {
  if (!alone()) group_->broadcast(tensor);
}

std::string Peers::broadcast(const std::string& text) const {
  return alone() ? text : group_->broadcast(text);
}

double Peers::broadcast(double number) const {
  if (!alone()) group_->broadcast(at::from_blob(&number, {1}, at::kDouble));
  return number;
}

void Peers::wait() const {
  if (!alone()) group_->wait();
}

}  // namespace kvlingua
