#include "kvlingua/base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <thread>

namespace kvlingua {
namespace {

std::string shown(ProgressMode mode, int steps, int64_t total) {
  setenv("KVLINGUA_PROGRESS_SECONDS", "0.01", 1);
  set_progress_mode(mode);
  testing::internal::CaptureStderr();
  {
    Progress progress("work", total, "items");
    for (int i = 0; i < steps; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(mode == ProgressMode::kBar ? 60 : 15));
      progress.advance(1, "shard 2");
    }
  }
  set_progress_mode(ProgressMode::kAuto);
  unsetenv("KVLINGUA_PROGRESS_SECONDS");
  return testing::internal::GetCapturedStderr();
}

TEST(Progress, PlainLinesWithRateAndTimeLeft) {
  const std::string text = shown(ProgressMode::kLines, 4, 8);
  EXPECT_THAT(text, testing::HasSubstr("work: 12 %, 1/8 items, "));
  EXPECT_THAT(text, testing::HasSubstr(" items/s, "));
  EXPECT_THAT(text, testing::HasSubstr(" left, shard 2\n"));
  EXPECT_THAT(text, testing::HasSubstr("work: 50 %, 4/8 items"));
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(Progress, BarRedrawsInPlaceAndHonoursNoColor) {
  unsetenv("NO_COLOR");
  EXPECT_THAT(shown(ProgressMode::kBar, 4, 8), testing::HasSubstr("\x1b[32m"));
  setenv("NO_COLOR", "1", 1);
  const std::string text = shown(ProgressMode::kBar, 4, 8);
  EXPECT_EQ(text.find("\x1b[32m"), std::string::npos);
  EXPECT_THAT(text, testing::HasSubstr("\rwork  25 % ["));
  unsetenv("NO_COLOR");
}

TEST(Progress, QuietShowsNothing) { EXPECT_EQ(shown(ProgressMode::kNone, 4, 8), ""); }

TEST(Progress, UnknownTotalHasNoPercentage) {
  const std::string text = shown(ProgressMode::kLines, 2, 0);
  EXPECT_THAT(text, testing::HasSubstr("work: 1 items, "));
  EXPECT_EQ(text.find('%'), std::string::npos);
}

TEST(Progress, TextOfDurationsBytesAndCounts) {
  EXPECT_EQ(duration_text(4.24), "4.2 s");
  EXPECT_EQ(duration_text(62), "62 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(7500), "2 h 05 min");
  EXPECT_EQ(duration_text(3 * 86400.0), "3 d 0 h");
  EXPECT_EQ(bytes_text(512), "512 B");
  EXPECT_EQ(bytes_text(1.5 * 1024 * 1024 * 1024), "1.50 GiB");
  EXPECT_EQ(count_text(812), "812");
  EXPECT_EQ(count_text(39800), "39.8k");
  EXPECT_EQ(count_text(1.2e6), "1.20M");
}

}  // namespace
}  // namespace kvlingua
