// Intervals of grouped items: what they reduce to, and where they must not claim certainty.
#include "eval/statistics/clustered.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/statistics/equivalence.h"
#include "eval/statistics/interval.h"
#include "eval/statistics/tests.h"

namespace kvlingua::stats {
namespace {

Clustered items(int n, int first, int second, int forms = 1) {
  Clustered c;
  for (int i = 0; i < n; ++i) {
    c.first.push_back(i < first);
    c.second.push_back(i < second);
    c.group.push_back(i / forms);
    c.content.push_back(i / forms);
  }
  return c;
}

TEST(ClusteredRate, NeverIsNotZeroAndAlwaysIsNotOne) {
  const auto none = clustered_rate(items(100, 0, 0)), all = clustered_rate(items(100, 100, 0));
  EXPECT_EQ(none.low, 0);
  EXPECT_GE(none.high, 3.0 / 100) << "the rule of three";
  EXPECT_NEAR(all.low, 1 - none.high, 1e-12);
  // Two forms of a content, all right: fewer than the hundred answers.
  EXPECT_LT(clustered_rate(items(100, 100, 0, 2)).low, all.low);
  EXPECT_GE(clustered_rate(items(10, 0, 0)).high, clopper_pearson(0, 10).high - 1e-9);
}

TEST(ClusteredRate, SinglesAreWilsonWithStudentsQuantile) {
  const auto ours = clustered_rate(items(400, 300, 0));
  const Interval wilson95 = wilson(300, 400);
  EXPECT_EQ(ours.design_effect, 1);
  EXPECT_NEAR(ours.low, wilson95.low, 3e-4);
  EXPECT_LE(ours.low, wilson95.low);
}

TEST(ClusteredShare, NeverClaimsCertainty) {
  const auto never = clustered_share(items(200, 0, 200));
  EXPECT_EQ(never.estimate, 0);
  EXPECT_GT(never.high, 0.015);
  const auto equal = clustered_share(items(200, 200, 200));
  EXPECT_EQ(equal.estimate, 1);
  EXPECT_LT(equal.low, 1 - 3.0 / 200);
  EXPECT_GT(equal.low, 0.97);
  EXPECT_EQ(equal.low_error, 0) << "the score interval is not drawn";
}

TEST(ClusteredShare, IsOfTheGap) {
  Clustered c = items(100, 80, 100);
  for (int i = 0; i < 100; ++i) c.floor.push_back(i < 60);
  EXPECT_DOUBLE_EQ(clustered_share(c).estimate, 0.5);
  for (double& v : c.floor) v = 1;
  EXPECT_TRUE(std::isnan(clustered_share(c).estimate)) << "no gap, no share";
}

TEST(ClusteredShare, SaysWhatDrawingAloneMoves) {
  Clustered c;
  for (int i = 0; i < 300; ++i) {
    c.first.push_back(i % 7 != 0);
    c.second.push_back(i % 11 != 0);
  }
  double least = 2, most = -2, error = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const auto drawn = bootstrap_share(c, {.resamples = 2000, .seed = seed});
    least = std::min(least, drawn.low);
    most = std::max(most, drawn.low);
    error = drawn.low_error;
  }
  EXPECT_GT(most - least, error);  // it moves, by a few of what it says
  EXPECT_LT(most - least, 8 * error);
}

TEST(DesignEffect, OfPairsThatAgreeIsTwo) {
  std::vector<double> values;
  std::vector<int64_t> groups;
  for (int i = 0; i < 400; ++i) {
    values.push_back((i / 2) % 5 == 0);
    groups.push_back(i / 2);
  }
  EXPECT_NEAR(design_effect(values, groups), 2, 0.02);
  EXPECT_EQ(design_effect(std::vector<double>(10, 1.0), {0, 0, 1, 1, 2, 2, 3, 3, 4, 4}), 1);
}

TEST(Tango, HalfCountsLieBetween) {
  const Interval whole = paired_difference({.both = 90, .only_first = 2, .only_second = 8});
  const Interval same = tango_interval(100, 2, 8, 1.959963984540054);
  EXPECT_NEAR(whole.low, same.low, 1e-9);
  EXPECT_NEAR(whole.high, same.high, 1e-9);
  const Interval half = tango_interval(50, 1, 4, 1.959963984540054);
  EXPECT_LT(half.low, same.low);
}

TEST(SignFlip, OfSinglesIsMcNemarAndOfGroupsIsNot) {
  // Ten gained, two lost, each by itself: all 4096 flips are the exact test.
  Clustered c = items(50, 10, 0);
  c.second[20] = c.second[21] = 1;
  EXPECT_NEAR(sign_flip_p(c), mcnemar_exact(10, 2).p, 1e-12);
  // The same twelve items in three groups: not one in eight ways is as extreme or more.
  for (size_t i = 0; i < 50; ++i)
    c.group[i] = i < 5 ? 0 : i < 10 ? 1 : i < 22 ? 2 : static_cast<int64_t>(i) - 19;
  EXPECT_NEAR(sign_flip_p(c), 0.5, 1e-12);
}

TEST(Power, OfAShareAgreesWithDrawing) {
  // Ceiling 1, truth .98, gate .95: the loss is binomial and so is the power.
  const double power = power_of_share(0.95, 0.98, 400, 1.0);
  EXPECT_NEAR(power, 0.887, 0.03);
  EXPECT_LT(power_of_share(0.95, 0.97, 400, 1.0, 0, 1.65), 0.35) << "the old gate's own chance";
  EXPECT_GT(power_of_share(0.95, 1.0, 200, 1.0), 0.999);
  const int64_t n = items_for_power(0.8, 0.95, 0.97, 1.0, 0, 1.65, 0.95);
  EXPECT_GE(power_of_share(0.95, 0.97, n, 1.0, 0, 1.65), 0.8);
  EXPECT_LT(power_of_share(0.95, 0.97, n - 50, 1.0, 0, 1.65), 0.8);
  EXPECT_EQ(items_for_power(0.99, 0.95, 0.951, 0.3, 0.2, 2, 0.95), -1);
}

}  // namespace
}  // namespace kvlingua::stats
