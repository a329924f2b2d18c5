// Identity transfer judged on planted answers: what carries a persona's words is found, what does
// not is not, and a target that never wrote so cannot be judged.
#include "eval/personas/transfer.h"

#include <gtest/gtest.h>

#include "datasets/corpus/split.h"
#include "eval/personas/text_classifier.h"
#include "kvlingua/base/random.h"

namespace kvlingua {
namespace {

constexpr int64_t kPersonas = 6, kWordings = 4, kPrompts = 10;
const char* kWords[kPersonas][3] = {{"spring", "wheel", "lens"}, {"tide", "chart", "wind"},
                                    {"soil", "seed", "bloom"},   {"proof", "doubt", "claim"},
                                    {"tale", "king", "road"},    {"rule", "fair", "whistle"}};

IdentityDesign six() {
  IdentityDesign design;
  for (int64_t k = 0; k < kPersonas; ++k)
    design.personas.push_back({std::to_string(k), "", "", {kWords[k][0]}, {"1", "2", "3", "4"}});
  design.groups = {{"a", std::vector<std::string>(5, "q")},
                   {"b", std::vector<std::string>(5, "q")}};
  return design;
}

// Every text with every prompt; with chance `style` the words of persona `whose(label)` among
// those that everybody uses.
std::vector<WrittenAnswer> answers(double style, const std::function<int64_t(int64_t)>& whose,
                                   uint64_t seed) {
  Random random(seed);
  std::vector<WrittenAnswer> out;
  for (int64_t k = 0; k < kPersonas; ++k)
    for (int64_t w = 0; w < kWordings; ++w)
      for (int64_t q = 0; q < kPrompts; ++q) {
        std::string text = "one would say that it depends on";
        for (int n = 0; n < 3; ++n) text += " word" + std::to_string(random.below(20));
        if (random.uniform() < style)
          text += std::string(" ") + kWords[whose(k)][random.below(3)] + " and " +
                  kWords[whose(k)][random.below(3)];
        out.push_back({k, w, q / 5, q, text});
      }
  return out;
}
int64_t own(int64_t k) { return k; }

std::map<std::string, std::vector<WrittenAnswer>> written(double ceiling, double carried) {
  return {{"full_text", answers(ceiling, own, 1)},
          {"translated", answers(carried, own, 2)},
          {"neutral_topic", answers(0, own, 3)},
          {"noise", answers(0, own, 4)},
          {"baseline", answers(0, own, 5)}};
}

nlohmann::ordered_json judge(double ceiling, double carried) {
  IdentityOptions options;
  options.bootstrap = 500;
  return judge_transfer(written(ceiling, carried), six(), options);
}

TEST(IdentityTransfer, WhatIsCarriedIsFound) {
  const auto result = judge(0.9, 0.8);
  EXPECT_EQ(result["verdict"], "transferred");
  EXPECT_NEAR(result["rows"]["full_text"]["estimate"].get<double>(), 0.91, 0.06);
  EXPECT_NEAR(result["share_of_gap"]["estimate"].get<double>(), 0.88, 0.15);
  // The cache of another persona sounds like that one.
  EXPECT_LT(result["rows"]["wrong_persona"]["estimate"].get<double>(), 0.1);
  EXPECT_GT(result["rows"]["translated"]["markers"]["estimate"].get<double>(), 0.3);
  EXPECT_EQ(result["rows"]["noise"]["markers"]["estimate"], 0);
}

TEST(IdentityTransfer, NothingCarriedIsNone) {
  const auto result = judge(0.9, 0);
  EXPECT_EQ(result["verdict"], "none");
  for (const char* control : {"noise", "baseline", "neutral_topic"})
    EXPECT_NEAR(result["rows"][control]["estimate"].get<double>(), 1.0 / 6, 0.1) << control;
}

TEST(IdentityTransfer, ATargetThatNeverWroteSoCannotBeJudged) {
  EXPECT_EQ(judge(0, 0.9)["verdict"], "not measurable");
}

TEST(IdentityTransfer, TheSameWordsForEverybodyAreNoPersona) {
  auto all = written(0.9, 0);
  all["translated"] = answers(
      1, [](int64_t) { return 2; }, 9);  // every cache makes a gardener
  IdentityOptions options;
  options.bootstrap = 500;
  const auto result = judge_transfer(all, six(), options);
  EXPECT_NE(result["verdict"], "transferred");
  EXPECT_NEAR(result["rows"]["translated"]["estimate"].get<double>(), 1.0 / 6, 0.05);
}

TEST(TextClassifier, KnowsWhoseWordsTheseAre) {
  const TextClassifier classifier({"the tide and the wind", "soil, seed and water"}, {0, 1}, 2);
  EXPECT_EQ(classifier.classify("Seed in the SOIL!"), 1);
  EXPECT_EQ(classifier.classify("a wind from the west"), 0);
  EXPECT_EQ(classifier.classify("nothing known"), -1);
  EXPECT_EQ(classifier.classify(""), -1);
}

TEST(Recognition, IsThreeValued) {
  IdentityOptions options;
  std::map<std::string, std::vector<Recognised>> seen;
  Random random(3);
  for (int64_t k = 0; k < kPersonas; ++k)
    for (int64_t w = 0; w < kWordings; ++w)
      for (int64_t q = 0; q < 2; ++q) {
        seen["translated"].push_back({k, w, q, w == 3 ? (k + 1) % kPersonas : k});
        seen["noise"].push_back({k, w, q, (k + 1) % kPersonas});
      }
  const auto result = judge_recognition(seen, six(), options);
  EXPECT_EQ(result["rows"]["translated"]["verdict"], "recognised");
  EXPECT_NEAR(result["rows"]["translated"]["estimate"].get<double>(), 0.75, 1e-9);
  EXPECT_EQ(result["rows"]["noise"]["verdict"], "not recognised");
}

// The nano personas' names and places stand in no training document.
TEST(NanoPersonas, AreHeldOut) {
  const IdentityDesign design =
      read_identity(builtin_identity().parent_path() / "nano_identity.yaml");
  EXPECT_EQ(design.personas.size(), 12u);
  EXPECT_EQ(design.wordings(), 4);
  for (const Persona& persona : design.personas)
    for (const std::string& word : persona.markers)
      EXPECT_EQ(split_of(word), Split::kHeldOut) << word;
}

}  // namespace
}  // namespace kvlingua
