// Kernels run on the threads there are: at::parallel_for is a template that without OpenMP is a
// plain loop, and says nothing.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

namespace kvlingua {
namespace {

TEST(Parallel, LoopsUseTheThreads) {
#ifdef __clang__
  GTEST_SKIP() << "built by clang, without OpenMP";
#endif
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  at::set_num_threads(before);
  EXPECT_EQ(threads.size(), 2u);
}

}  // namespace
}  // namespace kvlingua
