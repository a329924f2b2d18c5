// 26 runs of the program stopped twice each at random steps, half of them by kill -9; with batches
// made by the training thread itself, by one worker and by three.
#include "support/kill_training.h"

namespace kvlingua {
namespace {

class KillTraining : public ::testing::TestWithParam<int64_t> {};

TEST_P(KillTraining, EndsWithTheSameBits) {
  kvlingua::testing::KillTraining training(GetParam());
  Random random(11 + static_cast<uint64_t>(GetParam()));
  for (int i = 0; i < 13; ++i) {
    training.trial(SIGKILL, 2, random);
    training.trial(SIGTERM, 2, random);
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, KillTraining, ::testing::Values(0, 1, 3));

}  // namespace
}  // namespace kvlingua
