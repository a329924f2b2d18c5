// The edges of eval/statistics: empty and constant samples, seeds, groups, duplicates, refusals.
#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kvlingua/base/error.h"

namespace kvlingua::stats {
namespace {

TEST(Intervals, NothingIsKnownOfNothing) {
  const Interval none = wilson(0, 0);
  EXPECT_EQ(none.low, 0);
  EXPECT_EQ(none.high, 1);
  EXPECT_EQ(paired_difference({}).low, -1);
  EXPECT_EQ(paired_difference({}).high, 1);
  EXPECT_THROW(wilson(3, 2), Error);
  EXPECT_THROW(wilson(-1, 2), Error);
  EXPECT_THROW(clopper_pearson(1, 2, 1.0), Error);
}

TEST(Intervals, EndsAreExact) {
  EXPECT_EQ(wilson(0, 200).low, 0);
  EXPECT_EQ(wilson(200, 200).high, 1);
  EXPECT_LT(wilson(0, 200).high, 0.02);
}

TEST(Bootstrap, SameSeedSameInterval) {
  const std::vector<double> a{1, 0, 1, 1, 0, 1, 1, 0, 1, 1}, b{0, 0, 1, 0, 0, 1, 0, 0, 1, 1};
  const Interval first = bootstrap_difference(a, b, {.seed = 3}),
                 again = bootstrap_difference(a, b, {.seed = 3});
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  EXPECT_DOUBLE_EQ(first.estimate, 0.3);
  EXPECT_LE(first.low, 0.3);
  EXPECT_GE(first.high, 0.3);
}

TEST(Bootstrap, GroupsAreResampledWhole) {
  // Ten copies of each of four values: as forty items the interval is narrow, as four groups it is
  // not.
  std::vector<double> values;
  std::vector<int64_t> groups;
  for (int i = 0; i < 40; ++i) {
    values.push_back(i / 10);
    groups.push_back(i / 10);
  }
  const std::vector<double> zero(values.size(), 0);
  const Interval items = bootstrap_difference(values, zero, {.seed = 1});
  const Interval clusters = bootstrap_difference(values, zero, {.seed = 1, .groups = groups});
  EXPECT_GT(clusters.high - clusters.low, 2 * (items.high - items.low));
}

TEST(Bootstrap, ConstantAndVanishing) {
  const std::vector<double> ones(20, 1), zeros(20, 0);
  const Interval same = bootstrap_ratio(ones, ones);
  EXPECT_EQ(same.low, 1);
  EXPECT_EQ(same.high, 1);
  const Interval undefined = bootstrap_ratio(ones, zeros);
  EXPECT_TRUE(std::isinf(undefined.low) && std::isinf(undefined.high));
  EXPECT_THROW(bootstrap_ratio(ones, {1.0}), Error);
  EXPECT_THROW(bootstrap_difference({}, {}), Error);
}

TEST(Tests, NoDiscordantPairsIsNoEvidence) {
  EXPECT_EQ(mcnemar_exact(0, 0).p, 1);
  EXPECT_EQ(spearman({1, 1, 1}, {1, 2, 3}).p, 1);
  EXPECT_THROW(spearman({1, 2}, {1, 2}), Error);
  EXPECT_THROW(welch({1}, {1, 2}), Error);
  EXPECT_EQ(welch({1, 1}, {1, 1}).p, 1);
}

TEST(Equivalence, FewItemsCannotShowIt) {
  // Not one discordant pair, and still ten items are too few for a margin of 5 points; two hundred
  // are enough.
  EXPECT_GT(tost_proportions({.both = 10}, -0.05, 0.05).p, 0.05);
  EXPECT_LT(tost_proportions({.both = 200}, -0.05, 0.05).p, 0.05);
}

TEST(Equivalence, IntervalAndTestAgree) {
  for (int64_t b = 0; b < 12; ++b)
    for (int64_t c = 0; c < 12; ++c) {
      const Tost result = tost_proportions(
          {.only_first = b, .only_second = c, .neither = 200 - b - c}, -0.05, 0.05);
      const bool inside = result.difference.low > -0.05 && result.difference.high < 0.05;
      EXPECT_EQ(result.p < 0.05, inside) << b << " " << c;
    }
}

TEST(EffectSize, ConstantSamples) {
  EXPECT_EQ(cohens_d({1, 1, 1}, {1, 1, 1}), 0);
  EXPECT_TRUE(std::isinf(cohens_d({2, 2, 2}, {1, 1, 1})));
  EXPECT_LT(hedges_correction(4), 1);
  EXPECT_NEAR(hedges_correction(50), 1 - 3 / (4 * 50.0 - 1), 1e-4);
}

TEST(Regression, ResidualsKnowNothingOfLength) {
  std::vector<double> length, y;
  for (int i = 0; i < 50; ++i) {
    length.push_back(100 + i * i);
    y.push_back(3 + 0.5 * length.back() + (i % 3));
  }
  const auto left = residualise(y, {length});
  double dot = 0;
  for (size_t i = 0; i < left.size(); ++i) dot += left[i] * length[i];
  EXPECT_NEAR(dot, 0, 1e-6);
  EXPECT_THROW(ols(y, {length, length}), Error);
  EXPECT_THROW(ols(y, {length}, std::vector<int64_t>(50, 1)), Error);
}

TEST(Duplicates, AreCountedOnce) {
  const Distinct result = distinct({"a", "b", "a", "c", "a"});
  EXPECT_EQ(result.kept, (std::vector<size_t>{0, 1, 3}));
  EXPECT_EQ(result.duplicates, 2);
  EXPECT_EQ(result.largest, 3);
}

TEST(Power, GrowsWithItems) {
  EXPECT_LT(power_tost(0.04, 0.05, 50), power_tost(0.04, 0.05, 200));
  EXPECT_GT(power_tost(0.0, 0.05, 200), 0.999);
  EXPECT_EQ(power_tost(0.0, 0.05, 30), 0);
}

}  // namespace
}  // namespace kvlingua::stats
