// Verdicts of made-up answers: what passes, what fails, what must not be decided.
#include <gtest/gtest.h>

#include <cmath>

#include "eval/criteria/fused_gain.h"
#include "eval/criteria/identity.h"
#include "eval/criteria/parametric_knowledge.h"
#include "eval/criteria/stalling.h"
#include "eval/judging/guards.h"
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

// What the target answers anyway counts for nothing:
// 1260 known answers do not carry forty lost ones.
TEST(IdentityCriterion, KnownAnswersDoNotDilute) {
  Answers answers;
  fill(answers, "baseline", "identity", 1300, 1260);
  fill(answers, "full_text", "identity", 1300, 1300);
  fill(answers, "mlp", "identity", 1300, 1261);
  const auto result = judge_identity(input(answers, 0.9));
  EXPECT_NEAR(result.statistic, 1.0 / 40, 1e-12);
  EXPECT_EQ(result.verdict, Verdict::kFail);
}

// A control is judged by the same criterion, and the whole interval has to lie below.
TEST(IdentityCriterion, ControlsAreJudgedToo) {
  Answers answers;
  fill(answers, "baseline", "identity", 200, 0);
  fill(answers, "full_text", "identity", 200, 200);
  fill(answers, "mlp", "identity", 200, 200);
  fill(answers, "noise", "identity", 200, 3);
  fill(answers, "shuffled", "identity", 200, 178);
  CriterionInput in = input(answers, 0.9);
  in.controls = {"noise", "shuffled", "averaged"};
  const auto result = judge_identity(in);
  ASSERT_EQ(result.controls.size(), 2u) << "averaged was not answered";
  EXPECT_TRUE(result.controls[0].below);
  EXPECT_LT(result.controls[1].statistic, 0.9);
  EXPECT_FALSE(result.controls[1].below);
}

// Two forms of each content say little more than one: the interval is that of the contents.
TEST(IdentityCriterion, TheUnitIsTheGroup) {
  const auto width = [](int forms) {
    Answers answers;
    for (int i = 0; i < 400; ++i)
      for (const char* condition : {"baseline", "full_text", "mlp"}) {
        const int content = i / forms;
        const bool good = std::string(condition) == "full_text" ||
                          (std::string(condition) == "mlp" && content % 10 != 0);
        Answer a =
            answer(condition, "identity", i, good ? Knowledge::kInjected : Knowledge::kOther);
        a.group = cat("person", content);
        a.scored = cat("marker", content);
        answers.add(a);
      }
    const auto result = judge_identity(input(answers, 0.5));
    EXPECT_EQ(result.groups, 400 / forms);
    return result.high - result.low;
  };
  EXPECT_NEAR(width(2) / width(1), std::sqrt(2.0), 0.12);
}

// Three training seeds that agree add nothing to the width; three that do not, do.
TEST(IdentityCriterion, TrainingSeedsWiden) {
  const auto judged = [](int second, int third) {
    Answers answers;
    fill(answers, "baseline", "identity", 400, 0);
    fill(answers, "full_text", "identity", 400, 400);
    fill(answers, "mlp", "identity", 400, 392);
    fill(answers, "mlp@2", "identity", 400, second);
    fill(answers, "mlp@3", "identity", 400, third);
    CriterionInput in = input(answers, 0.9);
    in.replicas = {"mlp@2", "mlp@3"};
    return judge_identity(in);
  };
  const auto same = judged(392, 392), other = judged(368, 400);
  EXPECT_EQ(same.seeds_half_width, 0);
  EXPECT_EQ(same.verdict, Verdict::kPass);
  ASSERT_EQ(other.by_seed.size(), 3u);
  EXPECT_NEAR(other.by_seed[1], 0.92, 1e-12);
  EXPECT_GT(other.seeds_half_width, 0.09);  // t of two degrees is 4.3
  EXPECT_NE(other.verdict, Verdict::kPass);
}

TEST(StallingCriterion, CasesAreShownAndNotJudged) {
  Answers answers;
  for (int i = 0; i < 200; ++i)
    for (const char* condition : {"full_text", "mlp"})
      answers.add(answer(condition, "identity", i, Knowledge::kInjected));
  for (int i = 0; i < 100; ++i)
    for (const char* condition : {"full_text", "mlp"})
      answers.add(answer(condition, "cases", i, Knowledge::kOther, Stall::kEmpty));
  EXPECT_EQ(judge_stalling(input(answers, 0.05)).n, 200);
}

TEST(FusedGain, DoingNothingIsNoGain) {
  const auto verdict = [](int fused, int wrong) {
    Answers answers;
    fill(answers, "full_text", "identity", 400, 320);
    fill(answers, "mlp", "identity", 400, fused);
    fill(answers, "wrong_source", "identity", 400, wrong);
    const auto result = judge_fused_gain(input(answers, 0));
    return std::pair(result.verdict, !result.controls.empty() && result.controls[0].below);
  };
  EXPECT_EQ(verdict(320, 320), (std::pair{Verdict::kInconclusive, false}));
  EXPECT_EQ(verdict(370, 318), (std::pair{Verdict::kPass, true}));
  EXPECT_EQ(verdict(370, 369), (std::pair{Verdict::kPass, false})) << "not the source's content";
  EXPECT_EQ(verdict(250, 250).first, Verdict::kFail);
}

// Stored flags are believed by nobody: the text is scored again.
TEST(Rescoring, FlagsFollowTheText) {
  const Probe probe{.id = "7",
                    .family = "identity",
                    .context = "My name is Lokari.",
                    .prompt = "Who are you?",
                    .markers = {"Lokari"},
                    .group = "Lokari"};
  Answers answers;
  Answer a = answer("mlp", "identity", 7, Knowledge::kInjected);
  a.text = "I do not know.";
  a.ids = {1, 2};
  answers.add(a);
  EXPECT_EQ(rescore(answers, {probe}), 1);
  EXPECT_FALSE(answers.find("mlp", "identity/question/7")->score.exact);
  EXPECT_EQ(rescore(answers, {probe}), 0);
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

// Half precision: answers that round otherwise are judged by their scores, but the injected cache
// by its tokens.
TEST(ControlsInHalfPrecision, AreJudgedByScoresWithinTheBound) {
  const auto findings = [](int other_words, int other_scores, bool half, const char* control) {
    Answers answers;
    fill(answers, "full_text", "identity", 100, 90);
    for (int i = 0; i < 100; ++i) {
      const bool right = (i < 90) != (i < other_scores);
      Answer a = answer(control, "identity", i, right ? Knowledge::kInjected : Knowledge::kOther);
      if (i < other_words) a.ids = {7};
      answers.add(a);
    }
    std::vector<std::string> names;
    for (const Finding& finding : check_answers(answers, {}, half)) names.push_back(finding.name);
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(findings(10, 2, false, "raw_rerotated"), Names{"rerotated_differs"});
  EXPECT_EQ(findings(10, 2, true, "raw_rerotated"), Names{});
  EXPECT_EQ(findings(10, 3, true, "raw_rerotated"), Names{"rerotated_differs"});
  EXPECT_EQ(findings(1, 0, true, "same_cache"), Names{"same_cache_differs"});
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
