// Peers: the processes that train together. Each reads its share of every batch; gradients and sums
// are added over all of them, so the run is the one that a single process would make with the same
// recipe, up to the order of additions. Process 0 alone validates, writes and prints.
//
// In a run of one process every operation here does nothing. The work is done by ProcessGroup
// (kvlingua/cache/process_group.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "kvlingua/cache/process_group.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua {

class Peers {
 public:
  Peers() = default;  // alone
  // Meets the others of this run. Throws Error (kFailed) when they do not come.
  explicit Peers(const RunContext& context);

  int64_t rank() const { return group_ ? group_->rank() : 0; }
  int64_t size() const { return group_ ? group_->size() : 1; }
  bool alone() const { return group_ == nullptr; }
  bool main() const { return rank() == 0; }

  // In place, float32 or float64, any device; every process ends with the same bits.
  void sum(at::Tensor& tensor) const;
  void mean(at::Tensor& tensor) const;
  // Process 0's, for everybody. Any type.
  void broadcast(const at::Tensor& tensor) const;
  std::string broadcast(const std::string& text) const;
  double broadcast(double number) const;
  // Until all are here.
  void wait() const;

 private:
  std::shared_ptr<ProcessGroup> group_;
};

}  // namespace kvlingua
