#include "kvlingua/io/system.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace kvlingua {
namespace {

TEST(System, ResidentMemoryFollowsUse) {
  const uint64_t before = current_rss_bytes();
  EXPECT_GT(before, 1u << 20);
  constexpr size_t kBytes = size_t{64} << 20;
  {
    std::vector<char> block(kBytes);
    std::memset(block.data(), 1, block.size());
    EXPECT_GT(current_rss_bytes(), before + kBytes / 2);
  }
  EXPECT_GT(peak_rss_bytes(), before + kBytes / 2);
  const uint64_t now = current_rss_bytes();  // asked for before the peak, which may grow meanwhile
  EXPECT_GE(peak_rss_bytes(), now);
}

TEST(System, NumbersAreSane) {
  EXPECT_GT(total_memory_bytes(), 1u << 28);
  EXPECT_LE(available_memory_bytes(), total_memory_bytes());
  EXPECT_GT(available_memory_bytes(), 0u);
  EXPECT_GE(cpu_count(), 1);
  EXPECT_GT(free_disk_bytes("/"), 0u);
  EXPECT_EQ(free_disk_bytes("/no/such/folder") == 0, false);
}

}  // namespace
}  // namespace kvlingua
