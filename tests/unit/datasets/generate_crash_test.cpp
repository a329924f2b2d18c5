// Generation dies at file operations and random moments, meets full disks and short writes: afterwards the same command
// ends with the pair set of an uninterrupted run. All moments: tests/slow/datasets.
#include "support/generate_crash.h"

namespace kvlingua {
namespace {

using testing::CrashLab;

const CrashLab& lab() {
  static const CrashLab* l = new CrashLab;
  return *l;
}

TEST(GenerateCrash, KilledAtFileOperations) {
  ASSERT_GT(lab().operations(), 20);
  // A dozen, spread over the run; the slow test does all.
  for (int k = 1; k <= 12; ++k) lab().kill_at(std::max<int64_t>(1, lab().operations() * k / 12));
}

TEST(GenerateCrash, KilledAtRandomMoments) { lab().kill_at_random_moments(8, 1); }

TEST(GenerateCrash, AFullDiskAtEveryOperation) {
  int full = 0;
  for (int64_t n = 1; n <= lab().operations(); ++n) {
    const TempDir out;
    file_ops::set_fault(cat("enospc@", n));
    try {
      lab().run(out.path());
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kDiskFull) << n << ": " << e.what();
      ++full;
    }
    file_ops::set_fault("");
    lab().check_and_finish(out.path(), cat("disk full from operation ", n));
  }
  EXPECT_GT(full, lab().operations() / 2);
}

TEST(GenerateCrash, AShortWriteAtEveryOperation) {
  for (int64_t n = 1; n <= lab().operations(); ++n) {
    const TempDir out;
    file_ops::set_fault(cat("short@", n));
    EXPECT_TRUE(lab().run(out.path()).complete) << n;
    file_ops::set_fault("");
    lab().check_and_finish(out.path(), cat("short write at operation ", n));
  }
}

}  // namespace
}  // namespace kvlingua
