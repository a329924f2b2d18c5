// The order of items: its place is kept, and no place that it has not is gone to.
#include "trainers/engine/index_stream.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

TEST(IndexStream, GoesOnFromItsPlace) {
  IndexStream one(5, 7), other(5, 7);
  one.next(7);
  other.restore(one.state());
  EXPECT_EQ(one.next(9), other.next(9));
}

TEST(IndexStream, RefusesAPlaceThatItHasNot) {
  const auto code = [](const nlohmann::json& change) {
    nlohmann::json state = IndexStream(5, 7).state();
    state.update(change);
    IndexStream stream(5, 7);
    try {
      stream.restore(state);
    } catch (const Error& error) {
      return error.code();
    }
    for (const int64_t i : stream.next(12)) EXPECT_TRUE(i >= 0 && i < 5) << change.dump();
    return ExitCode::kOk;
  };
  EXPECT_EQ(code({{"position", 5}}), ExitCode::kOk);
  for (const nlohmann::json& place :
       {nlohmann::json(6), nlohmann::json(-1), nlohmann::json(int64_t{1} << 62),
        nlohmann::json(UINT64_MAX), nlohmann::json(1.0), nlohmann::json("1"),
        nlohmann::json(nullptr)}) {
    EXPECT_EQ(code({{"position", place}}), ExitCode::kCorrupt) << place.dump();
    if (place == 6) continue;
    EXPECT_EQ(code({{"epoch", place}}), ExitCode::kCorrupt) << place.dump();
  }
  EXPECT_EQ(code({{"items", 6}}), ExitCode::kInput);
  EXPECT_EQ(code({{"seed", "7"}}), ExitCode::kInput);
  IndexStream stream(5, 7);
  EXPECT_THROW(stream.restore(nullptr), Error);
  EXPECT_THROW(stream.restore({{"items", 5}, {"seed", 7}}), Error);
}

}  // namespace
}  // namespace kvlingua
