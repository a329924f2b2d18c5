// Verdicts of made-up answers: what passes, what fails, what must not be decided.
#include <gtest/gtest.h>

#include "eval/criteria/identity.h"
#include "eval/criteria/parametric_knowledge.h"
#include "eval/criteria/stalling.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

Answer answer(const std::string& condition, const std::string& family, int i, Knowledge knowledge,
              Stall stall = Stall::kNone) {
  Answer a;
  a.condition = condition;
  a.family = family;
  a.form = "question";
  a.group = cat("group", i);
  a.item = cat(family, "/question/", i);
  a.read = cat(condition, i);
  a.scored = cat("marker", i);
  a.text = cat("text", i);
  a.score.knowledge = knowledge;
  a.score.exact = knowledge == Knowledge::kInjected || knowledge == Knowledge::kBoth;
  a.score.stall = stall;
  return a;
}

// `n` items of which the first `good` succeed.
void fill(Answers& answers, const std::string& condition, const std::string& family, int n,
          int good, Knowledge otherwise = Knowledge::kOther) {
  for (int i = 0; i < n; ++i)
    answers.add(answer(condition, family, i, i < good ? Knowledge::kInjected : otherwise));
}

CriterionInput input(const Answers& answers, double threshold) {
  return {.answers = answers, .gated = "mlp", .threshold = threshold};
}

TEST(IdentityCriterion, PassFailAndUndecided) {
  const auto verdict = [](int n, int good) {
    Answers answers;
    fill(answers, "baseline", "identity", n, 0);
    fill(answers, "full_text", "identity", n, n);
    fill(answers, "mlp", "identity", n, good);
    return judge_identity(input(answers, 0.9)).verdict;
  };
  EXPECT_EQ(verdict(200, 198), Verdict::kPass);
  EXPECT_EQ(verdict(200, 200), Verdict::kPass);
  EXPECT_EQ(verdict(200, 120), Verdict::kFail);
  EXPECT_EQ(verdict(200, 182), Verdict::kInconclusive);
  EXPECT_EQ(verdict(10, 10), Verdict::kInconclusive) << "ten successes do not show ninety per cent";
}

TEST(IdentityCriterion, NothingToShowIsNoPass) {
  Answers none;
  EXPECT_EQ(judge_identity(input(none, 0.9)).verdict, Verdict::kInconclusive);
  Answers flat;  // the target answers just as well without any context
  for (const char* condition : {"baseline", "full_text", "mlp"})
    fill(flat, condition, "identity", 200, 150);
  const auto result = judge_identity(input(flat, 0.9));
  EXPECT_EQ(result.verdict, Verdict::kInconclusive);
  ASSERT_FALSE(result.notes.empty());
}

TEST(KnowledgeCriterion, OnlyKnownFactsCount) {
  Answers answers;
  fill(answers, "baseline", "counterfact", 200, 0, Knowledge::kOther);
  for (int i = 0; i < 120; ++i)
    answers.add(answer("baseline", "counterfact", i, Knowledge::kParametric));
  fill(answers, "full_text", "counterfact", 200, 120);
  fill(answers, "mlp", "counterfact", 200, 119);
  const auto result = judge_parametric_knowledge(input(answers, 0.9));
  EXPECT_EQ(result.n, 120);
  EXPECT_EQ(result.verdict, Verdict::kPass);

  Answers unknown;  // nothing is known by heart: empty after filtering, never a pass
  for (const char* condition : {"baseline", "full_text", "mlp"})
    fill(unknown, condition, "counterfact", 200, 200);
  const auto empty = judge_parametric_knowledge(input(unknown, 0.9));
  EXPECT_EQ(empty.n, 0);
  EXPECT_EQ(empty.verdict, Verdict::kInconclusive);
}

TEST(StallingCriterion, NotMoreThanFivePointsAbove) {
  const auto verdict = [](int stalled_gated, int stalled_full, int n) {
    Answers answers;
    for (int i = 0; i < n; ++i) {
      answers.add(answer("full_text", "identity", i, Knowledge::kInjected,
                         i < stalled_full ? Stall::kRepetition : Stall::kNone));
      answers.add(answer("mlp", "identity", i, Knowledge::kInjected,
                         i < stalled_gated ? Stall::kEmpty : Stall::kNone));
    }
    return judge_stalling(input(answers, 0.05)).verdict;
  };
  EXPECT_EQ(verdict(1, 0, 200), Verdict::kPass);
  EXPECT_EQ(verdict(0, 30, 200), Verdict::kPass) << "fewer stalls than full_text cannot fail";
  EXPECT_EQ(verdict(60, 0, 200), Verdict::kFail);
  EXPECT_EQ(verdict(8, 0, 200), Verdict::kInconclusive);
  EXPECT_EQ(verdict(0, 0, 10), Verdict::kInconclusive);
}

TEST(Duplicates, RepeatedItemsAreCountedOnce) {
  // The same ten items under two hundred ids: n is ten, and ten do not decide.
  Answers answers;
  for (int i = 0; i < 200; ++i)
    for (const char* condition : {"baseline", "full_text", "mlp"}) {
      Answer a =
          answer(condition, "identity", i,
                 std::string(condition) == "baseline" ? Knowledge::kOther : Knowledge::kInjected);
      a.read = cat(condition, i % 10);
      a.text = cat("text", i % 10);
      a.scored = cat("marker", i % 10);
      answers.add(a);
    }
  const auto result = judge_identity(input(answers, 0.9));
  EXPECT_EQ(result.n, 10);
  EXPECT_EQ(result.verdict, Verdict::kInconclusive);
}

TEST(MemorisationRatio, OfThoseThatSayEither) {
  Answers answers;
  fill(answers, "mlp", "counterfact", 10, 6, Knowledge::kParametric);
  EXPECT_DOUBLE_EQ(memorisation_ratio(answers.of("mlp")), 0.4);
}

TEST(StoredAnswer, SurvivesJson) {
  Answer a = answer("mlp", "identity", 3, Knowledge::kBoth, Stall::kEcho);
  a.ids = {1, 2, 3};
  a.logprob = -1.25;
  a.nll_answer = 0.5;
  const Answer back = Answer::from_json(a.to_json(), "here");
  EXPECT_EQ(back.to_json(), a.to_json());
  EXPECT_TRUE(std::isnan(back.kl));
  EXPECT_THROW(Answer::from_json({{"condition", "x"}}, "here"), Error);
}

}  // namespace
}  // namespace kvlingua
