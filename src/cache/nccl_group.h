// The GPU side of a ProcessGroup: NCCL by libtorch's ProcessGroupNCCL. Made where the build has
// NCCL's header and CUDA; elsewhere tensors of a GPU go through host memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace kvlingua {

class NcclGroup {
 public:
  // Null in a build without NCCL. Connects at once; the store is not needed afterwards.
  static std::unique_ptr<NcclGroup> make(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                         int size, at::Device device);
  virtual ~NcclGroup() = default;

  // In place. `waiting` is called while the others are waited for; when it throws, the group is
  // given up and the exception goes on.
  using Waiting = std::function<void()>;
  virtual void sum(at::Tensor& tensor, const Waiting& waiting) = 0;
  virtual void broadcast(at::Tensor& tensor, const Waiting& waiting) = 0;
};

}  // namespace kvlingua
