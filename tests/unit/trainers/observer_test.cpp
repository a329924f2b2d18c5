// What a training run says of its steps, and the pace in it.
#include "trainers/engine/observer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/io/json_lines.h"
#include "support/temp_dir.h"
#include "trainers/engine/pace.h"

namespace kvlingua {
namespace {

StepReport report() {
  return {.stage = "regression",
          .step = 120,
          .total_steps = 1929,
          .loss = 1.8421,
          .lr = 9.3e-5,
          .parts = {{"key_cosine", .871}, {"value_cosine", .802}, {"kl", .25}},
          .tokens = 32800,
          .steps = 2,
          .seconds = .824,
          .memory_bytes = uint64_t{6} << 30,
          .peak_share = .352};
}

TEST(StepLine, SaysLossSpeedAndShareOfThePeak) {
  EXPECT_EQ(
      step_line(report()),
      "step 120/1929  | loss 1.8421  | cos K .871 V .802 | kl 0.2500 | lr 9.3e-05 | 412 ms   | "
      "39.8k tok/s  | 35 % of peak  | 6.00 GiB");
}

TEST(StepLine, StandsInColumns) {
  StepReport first = report(), later = report();
  first.step = 1, first.loss = 12.3456, first.seconds = 20, first.tokens = 90,
  first.peak_share = .004;
  later.step = 1929;
  const std::string a = step_line(first), b = step_line(later);
  ASSERT_EQ(a.size(), b.size()) << a << "\n" << b;
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i] == '|', b[i] == '|') << a << "\n" << b;
}

TEST(StepLine, WithoutAKnownPeakThereIsNoShare) {
  StepReport r = report();
  r.peak_share.reset();
  EXPECT_THAT(step_line(r), ::testing::Not(::testing::HasSubstr("peak")));
}

TEST(Timing, HoldsTheShareOfThePeak) {
  const TempDir folder;
  const auto observer = make_json_lines_observer(folder.path());
  observer->step(report());
  const auto lines = read_json_lines(folder / "timing.jsonl");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_DOUBLE_EQ(lines[0].at("peak_share").get<double>(), .352);
  EXPECT_NEAR(lines[0].at("tokens_per_second").get<double>(), 32800 / .824, 1e-6);
}

TEST(Pace, IsProductsOverTimeAndPeak) {
  const Pace pace{.step_products = 3e9, .peak_rate = 1e10};
  EXPECT_DOUBLE_EQ(pace.share(5, 3), .5);
  EXPECT_FALSE(Pace{}.known());
}

}  // namespace
}  // namespace kvlingua
