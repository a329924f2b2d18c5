// All of tests/unit/datasets/generate_crash_test.cpp: killed at every file operation, and at 200
// random moments.
#include "support/generate_crash.h"

namespace kvlingua {
namespace {

using testing::CrashLab;

const CrashLab& lab() {
  static const CrashLab* l = new CrashLab;
  return *l;
}

TEST(GenerateCrash, KilledAtEveryFileOperation) {
  for (int64_t n = 1; n <= lab().operations(); ++n) lab().kill_at(n);
}

TEST(GenerateCrash, ABadDiskAtEveryOperation) {
  for (const char* fault : {"enospc", "enospc-once", "eio", "eio-once"})
    lab().bad_disk_at_every(1, fault);
}

TEST(GenerateCrash, AShortWriteAtEveryOperation) { lab().short_write_at_every(1); }

TEST(GenerateCrash, KilledAtTwoHundredRandomMoments) { lab().kill_at_random_moments(200, 2); }

}  // namespace
}  // namespace kvlingua
