// Peers: the processes that train together. Each reads its share of every
// batch; gradients and sums are added over all of them, so the run is the one
// that a single process would make with the same recipe, up to the order of
// additions. Process 0 alone validates, writes and prints.
//
// Alone, every operation here does nothing. Tensors of a GPU go through host
// memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "kvlingua/config/world.h"
#include "kvlingua/io/process_ring.h"

namespace kvlingua {

class Peers {
 public:
  Peers() = default;  // alone
  // Meets the others. Throws Error (kFailed) when they do not come.
  explicit Peers(const World &world);

  int64_t rank() const { return ring_ ? ring_->rank() : 0; }
  int64_t size() const { return ring_ ? ring_->size() : 1; }
  bool alone() const { return ring_ == nullptr; }
  bool main() const { return rank() == 0; }

  // In place, float32 or float64, any device; every process ends with the same
  // bits.
  void sum(at::Tensor &tensor) const;
  void mean(at::Tensor &tensor) const;
  // Process 0's, for everybody. Any type.
  void broadcast(const at::Tensor &tensor) const;
  std::string broadcast(const std::string &text) const;
  double broadcast(double number) const;
  // Until all are here.
  void wait() const;

 private:
  std::shared_ptr<ProcessRing> ring_;
};

}  // namespace kvlingua
