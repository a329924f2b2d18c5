#include "trainers/engine/peers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// The tensor in contiguous host memory; the same one where it is there already.
at::Tensor on_host(const at::Tensor &tensor) { return tensor.cpu().contiguous(); }

}  // namespace

Peers::Peers(const World &world) {
  if (world.alone()) return;
  ring_ = ProcessRing::join({.rank = world.rank,
                             .size = world.size,
                             .master_address = world.master_addr,
                             .master_port = world.master_port});
}

void Peers::sum(at::Tensor &tensor) const {
  if (alone() || tensor.numel() == 0) return;
  const c10::NoGradGuard no_grad;
  const at::Tensor host = on_host(tensor);
  const auto count = static_cast<size_t>(host.numel());
  switch (host.scalar_type()) {
    case at::kFloat:
      ring_->sum(host.mutable_data_ptr<float>(), count);
      break;
    case at::kDouble:
      ring_->sum(host.mutable_data_ptr<double>(), count);
      break;
    default:
      throw Error({.where = "peers", .what = "only float32 and float64 are added over processes"});
  }
  if (!host.is_same(tensor)) tensor.copy_(host);
}

void Peers::mean(at::Tensor &tensor) const {
  if (alone()) return;
  sum(tensor);
  const c10::NoGradGuard no_grad;
  tensor.div_(static_cast<double>(size()));
}

void Peers::broadcast(const at::Tensor &tensor) const {
  if (alone() || tensor.numel() == 0) return;
  const c10::NoGradGuard no_grad;
  const at::Tensor host = on_host(tensor.detach());
  ring_->broadcast(host.mutable_data_ptr(), host.nbytes());
  if (host.data_ptr() != tensor.data_ptr()) at::Tensor(tensor.detach()).copy_(host);
}

std::string Peers::broadcast(const std::string &text) const {
  return alone() ? text : ring_->broadcast(text);
}

double Peers::broadcast(double number) const {
  if (!alone()) ring_->broadcast(&number, sizeof number);
  return number;
}

void Peers::wait() const {
  if (alone()) return;
  double all = 0;
  ring_->sum(&all, 1);
}

}  // namespace kvlingua
