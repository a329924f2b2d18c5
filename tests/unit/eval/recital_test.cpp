// Listing the context is not answering, and what was never trained on is named as such.
#include "eval/answers/recital.h"

#include <gtest/gtest.h>

#include "eval/judging/judgement.h"
#include "kvlingua/base/error.h"
#include "kvlingua/projector/identity.h"

namespace kvlingua {
namespace {

Probe drawers(int i) {
  return {
      .id = cat("d", i),
      .family = "needle",
      .context = cat("The lamp is in box ", i, ". The violin hangs near a green door. Somebody ",
                     "left bread beneath our wooden stairs yesterday."),
      .prompt = "Where is the lamp?",
      .markers = {cat("box ", i)},
      .group = cat("lamp", i)};
}

Answer said(const std::string& condition, const Probe& probe, const std::string& text) {
  Answer answer{.condition = condition, .item = item_key(probe), .family = probe.family};
  answer.form = probe.form();
  answer.group = cat(probe.family, "/", probe.group);
  answer.read = cat(condition, probe.id);
  answer.scored = markers_digest(probe);
  answer.text = text;
  answer.ids = {1, 2, 3};
  answer.score = score(probe, text, 3, true);
  return answer;
}

TEST(Recital, ListsTheContextBeyondWhatTheTextWouldSay) {
  const Probe probe = drawers(7);
  const std::string short_answer = "It is in box 7.";
  EXPECT_FALSE(recites(probe, short_answer, short_answer));
  EXPECT_FALSE(recites(probe, "The lamp is in box 7, near a green door.", short_answer));
  EXPECT_TRUE(recites(probe, probe.context, short_answer));
  EXPECT_FALSE(recites(probe, probe.context, probe.context)) << "full_text says as much";
}

// A context of one fact has nothing to list: saying it over again is the answer.
TEST(Recital, OneFactIsNoList) {
  const Probe probe{.id = "1",
                    .family = "identity",
                    .context = "My name is Vabe and I live in Torun.",
                    .prompt = "What is your name and where do you live?",
                    .markers = {"Vabe", "Torun"}};
  EXPECT_FALSE(recites(probe, probe.context, "Vabe, Torun"));
}

TEST(Recital, WithholdsWhenItIsMoreThanOneInTwenty) {
  const auto found = [](int listing) {
    Answers answers;
    std::vector<Probe> probes;
    for (int i = 0; i < 100; ++i) {
      probes.push_back(drawers(i));
      const std::string plain = cat("It is in box ", i, ".");
      answers.add(said("full_text", probes.back(), plain));
      answers.add(said("mlp", probes.back(), i < listing ? probes.back().context : plain));
    }
    return find_recitals(answers, probes, "mlp");
  };
  EXPECT_FALSE(found(5).has_value());
  ASSERT_TRUE(found(6).has_value());
  EXPECT_TRUE(found(6)->withholds);
  EXPECT_EQ(found(6)->name, "answers_recite");
}

// Distilled without needle: the line and the criterion say so; distilled on it: neither does.
TEST(Judgement, NamesTheFamilyLeftOutOfDistillation) {
  const KvShape shape{.layers = 1, .kv_heads = 1, .head_dim = 2};
  const IdentityProjector projector(shape, shape);
  const std::map<std::string, NamedProjector> projectors{{"mlp", {&projector, "run/mlp"}}};
  EvalOptions options;
  options.gated = "mlp";
  options.bootstrap = 200;
  options.families = {"needle"};
  Answers answers;
  for (int i = 0; i < 60; ++i) {
    const Probe probe = drawers(i);
    for (const char* condition : {"full_text", "mlp"})
      answers.add(said(condition, probe, cat("It is in box ", i, ".")));
    for (const char* condition : {"baseline", "noise", "shuffled", "averaged", "wrong_text"})
      answers.add(said(condition, probe, "Nobody knows."));
  }
  const auto judged = [&](std::vector<std::string> trained) {
    std::vector<Finding> findings;
    return judge({.options = options,
                  .projectors = projectors,
                  .answers = answers,
                  .trained_families = std::move(trained)},
                 findings);
  };
  const auto notes = [](const Judgement& judgement) {
    std::string all;
    for (const CriterionResult& one : judgement.criteria)
      if (one.name == "needle")
        for (const std::string& note : one.notes) all += note;
    return all;
  };
  const Judgement without = judged({"identity", "counterfact"});
  EXPECT_NE(without.line.find("(needle left out of distillation)"), std::string::npos)
      << without.line;
  EXPECT_NE(notes(without).find("left out of distillation: needle"), std::string::npos);
  const Judgement with = judged({"identity", "needle"});
  EXPECT_NE(with.line.find("in the templates it was trained on"), std::string::npos) << with.line;
  EXPECT_EQ(notes(with).find("left out"), std::string::npos);
}

}  // namespace
}  // namespace kvlingua
