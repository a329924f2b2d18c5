#include "nccl_group.h"

#ifdef KVLINGUA_NCCL
#include <ATen/ATen.h>

#include <chrono>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <utility>
#include <vector>

namespace kvlingua {
namespace {

// The processes' watch ends a run whose process has gone; NCCL's own, which aborts the program,
// must not be faster.
constexpr auto kTimeout = std::chrono::hours(24);
constexpr auto kLookEvery = std::chrono::microseconds(50);
constexpr int kLooks = 2000;  // until `waiting` is called

class Group : public NcclGroup {
 public:
  Group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, at::Device device) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = kTimeout;
    group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
    group_->setBoundDeviceId(device);
    group_->eagerConnectSingleDevice(device);
  }
  ~Group() override {
    if (given_up_) {
      group_.release();  // its destructor would wait for the others
    } else {
      group_->shutdown();
    }
  }
  void sum(at::Tensor& tensor, const Waiting& waiting) override {
    std::vector<at::Tensor> tensors{tensor};
    finish(group_->allreduce(tensors), waiting);
  }
  void broadcast(at::Tensor& tensor, const Waiting& waiting) override {
    std::vector<at::Tensor> tensors{tensor};
    finish(group_->broadcast(tensors), waiting);
  }

 private:
  void finish(const c10::intrusive_ptr<c10d::Work>& work, const Waiting& waiting) {
    for (int looks = 1; !work->isCompleted(); ++looks) {
      if (looks % kLooks == 0) {
        try {
          waiting();
        } catch (...) {
          given_up_ = true;
          throw;
        }
      }
      std::this_thread::sleep_for(kLookEvery);
    }
    work->wait();  // throws what went wrong; streams are in order already
  }

  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
  bool given_up_ = false;
};

}  // namespace

std::unique_ptr<NcclGroup> NcclGroup::make(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                           int size, at::Device device) {
  return std::make_unique<Group>(store, rank, size, device);
}

}  // namespace kvlingua

#else

namespace kvlingua {

std::unique_ptr<NcclGroup> NcclGroup::make(const c10::intrusive_ptr<c10d::Store>& /*store*/,
                                           int /*rank*/, int /*size*/, at::Device /*device*/) {
  return nullptr;
}

}  // namespace kvlingua
#endif
