// The ladder of made-up answers: what rises, what is not shown to, and how groups widen it.
#include "eval/judging/ladder.h"

#include <gtest/gtest.h>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

void fill(Answers& answers, const std::string& condition, int n, int good, int per_group = 1,
          const std::string& family = "counterfact") {
  for (int i = 0; i < n; ++i) {
    Answer a;
    a.condition = condition;
    a.family = family;
    a.form = "question";
    a.group = cat("group", i / per_group);
    a.item = cat(family, "/question/", i);
    a.read = cat(condition, i);
    a.scored = cat("marker", i);
    a.text = cat("text", i);
    a.score.exact = i < good;
    answers.add(std::move(a));
  }
}

TEST(Ladder, NeighboursInOrderWithWhatWasGainedAndLost) {
  Answers answers;
  fill(answers, "full_text", 200, 200);
  fill(answers, "distilled", 200, 150);
  fill(answers, "ridge", 200, 60);
  fill(answers, "ridge_aligned", 200, 20);
  const Ladder result = ladder(answers, {}).value();
  EXPECT_EQ(result.rungs, (std::vector<std::string>{"ridge_aligned", "ridge", "distilled"}));
  ASSERT_NE(result.find("counterfact"), nullptr);
  const auto& steps = result.find("counterfact")->steps;
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].lower, "ridge_aligned");
  EXPECT_EQ(steps[0].upper, "ridge");
  EXPECT_EQ(steps[1].lower, "ridge");
  EXPECT_EQ(steps[1].upper, "distilled");
  EXPECT_DOUBLE_EQ(steps[0].difference, 0.2);
  EXPECT_DOUBLE_EQ(steps[1].difference, 0.45);
  EXPECT_EQ(steps[1].only_upper, 90);
  EXPECT_EQ(steps[1].only_lower, 0);
  for (const LadderStep& step : steps) {
    EXPECT_TRUE(step.rises);
    EXPECT_LT(step.low, step.difference);
    EXPECT_GT(step.high, step.difference);
    EXPECT_GE(step.p_holm, step.p);
  }
}

TEST(Ladder, EqualRungsAreNotShownToRise) {
  Answers answers;
  fill(answers, "ridge", 100, 50);
  fill(answers, "mlp", 100, 50);
  const LadderStep step = ladder(answers, {}).value().find("counterfact")->steps.at(0);
  EXPECT_EQ(step.difference, 0.0);
  EXPECT_FALSE(step.rises);
  // No item differs: a bootstrap alone would say exactly 0.
  EXPECT_LT(step.low, -0.01);
  EXPECT_GT(step.high, 0.01);
  EXPECT_EQ(step.p, 1.0);
}

TEST(Ladder, ItemsOfOneGroupCountTogether) {
  const auto width = [](int per_group) {
    Answers answers;
    fill(answers, "ridge", 200, 40, per_group);
    fill(answers, "mlp", 200, 80, per_group);
    const LadderStep step = ladder(answers, {}).value().find("counterfact")->steps.at(0);
    return step.high - step.low;
  };
  // Twenty in step are one observation: the interval grows by about the root of twenty.
  EXPECT_GT(width(20), 3 * width(1));
}

TEST(Ladder, NeedsTwoRungsAndLeavesCasesOut) {
  Answers answers;
  fill(answers, "full_text", 10, 10);
  fill(answers, "mlp", 10, 5);
  EXPECT_FALSE(ladder(answers, {}).has_value());
  fill(answers, "ridge", 10, 5, 1, "cases");
  fill(answers, "mlp", 10, 5, 1, "cases");
  const Ladder two = ladder(answers, {}).value();
  const LadderFamily* counterfact = two.find("counterfact");
  EXPECT_TRUE(counterfact == nullptr || counterfact->steps.empty());
  EXPECT_EQ(two.find("cases"), nullptr);
}

}  // namespace
}  // namespace kvlingua
