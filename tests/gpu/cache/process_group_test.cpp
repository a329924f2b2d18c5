// One process whose tensors NCCL adds: nothing changes. NCCL refuses two processes on one GPU.
#include "kvlingua/cache/process_group.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/free_port.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

TEST(ProcessGroupOnGpu, NcclOfOneChangesNothing) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU";
  const TempDir folder;
  const auto group = ProcessGroup::join({.world = {.master_port = testing::free_port()},
                                         .folder = folder.path(),
                                         .device = at::Device("cuda:0")});
  if (!group->has_nccl()) GTEST_SKIP() << "a build without NCCL";
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor x = at::randn({1000, 333}, at::TensorOptions().dtype(type).device(at::kCUDA));
    at::Tensor sum = x.clone();
    group->sum(sum);
    EXPECT_TRUE(at::equal(sum, x));
    const at::Tensor told = x.clone();
    group->broadcast(told);
    EXPECT_TRUE(at::equal(told, x));
  }
}

}  // namespace
}  // namespace kvlingua
