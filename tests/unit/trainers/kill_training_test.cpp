// A few of the trials of tests/slow/trainers/kill_training_test.cpp.
#include "support/kill_training.h"

namespace kvlingua {
namespace {

TEST(KillTraining, EndsWithTheSameBits) {
  if (!std::filesystem::exists(KVLINGUA_BINARY))
    GTEST_SKIP() << "the program is not built: " << KVLINGUA_BINARY;
  kvlingua::testing::KillTraining training;
  Random random(5);
  training.trial(SIGKILL, 2, random);
  training.trial(SIGTERM, 2, random);
}

}  // namespace
}  // namespace kvlingua
