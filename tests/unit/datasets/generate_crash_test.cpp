// Generation dies at file operations and random moments, meets full and failing disks and short
// writes: afterwards the same command ends with the pair set of an uninterrupted run. All moments:
// tests/slow/datasets.
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

TEST(GenerateCrash, ABadDiskAtSomeOperations) {
  for (const char* fault : {"enospc", "enospc-once", "eio", "eio-once"})
    lab().bad_disk_at_every(19, fault);
}

// All three shards open at once: which operation is the n-th differs from run to run, what is left
// and what comes of it does not.
TEST(GenerateCrash, SeveralWriters) {
  ::setenv("KVLINGUA_CRASH_WRITERS", "3", 1);
  for (int k = 1; k <= 8; ++k) lab().kill_at(std::max<int64_t>(1, lab().operations() * k / 9));
  for (const char* fault : {"enospc", "enospc-once", "eio"}) lab().bad_disk_at_every(29, fault);
  lab().short_write_at_every(17);
  ::unsetenv("KVLINGUA_CRASH_WRITERS");
}

TEST(GenerateCrash, AShortWriteAtSomeOperations) { lab().short_write_at_every(7); }

}  // namespace
}  // namespace kvlingua
