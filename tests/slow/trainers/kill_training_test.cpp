// 26 runs of the program stopped twice each at random steps, half of them by kill -9.
#include "support/kill_training.h"

namespace kvlingua {
namespace {

TEST(KillTraining, EndsWithTheSameBits) {
  kvlingua::testing::KillTraining training;
  Random random(11);
  for (int i = 0; i < 13; ++i) {
    training.trial(SIGKILL, 2, random);
    training.trial(SIGTERM, 2, random);
  }
}

}  // namespace
}  // namespace kvlingua
