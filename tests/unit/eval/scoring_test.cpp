#include "eval/answers/scoring.h"

#include <gtest/gtest.h>

#include "eval/items/probe.h"

namespace kvlingua {
namespace {

TEST(Matching, WholeWordsWhateverTheCase) {
  EXPECT_TRUE(occurs("I live in SEATTLE.", "Seattle"));
  EXPECT_FALSE(occurs("It boils at 1000 degrees", "100"));
  EXPECT_FALSE(occurs("a Romeo", "Rome"));
  EXPECT_TRUE(
      occurs("at 100\xC2\xB0"
             "C",
             "100"));                                      // a degree sign is no letter
  EXPECT_TRUE(occurs("water is H\xE2\x82\x82O.", "H2O"));  // subscript two
  EXPECT_TRUE(occurs("\xE7\xAD\x94\xE6\xA1\x88Paris\xE3\x80\x82", "Paris"));
  EXPECT_TRUE(occurs("my  name\nis Lyra", "name is"));
  EXPECT_TRUE(occurs("Romeo of Rome", "Rome"))
      << "a first hit inside a word must not hide a later one";
  EXPECT_FALSE(occurs("anything", ""));
}

TEST(Stalling, EveryKind) {
  const char* prompt = "What is your name and where do you live?";
  EXPECT_EQ(stall_of("", prompt, 0, true), Stall::kEndOfTurnFirst);
  EXPECT_EQ(stall_of(" \n", prompt, 2, true), Stall::kEmpty);
  EXPECT_EQ(stall_of("...!?", prompt, 3, false), Stall::kNoContent);
  EXPECT_EQ(stall_of("What is your name and where do you live? I am", prompt, 12, false),
            Stall::kEcho);
  EXPECT_EQ(stall_of("where do you live", prompt, 4, true), Stall::kEcho);
  EXPECT_EQ(stall_of("the the the the the the the the the", prompt, 9, false), Stall::kRepetition);
  EXPECT_EQ(stall_of("I am Lyra. I am Lyra. I am Lyra. I am Lyra.", prompt, 12, false),
            Stall::kRepetition);
  EXPECT_EQ(stall_of("My name is Lyra and I live in Seattle.", prompt, 9, true), Stall::kNone);
  EXPECT_EQ(stall_of("Paris", prompt, 1, true), Stall::kNone);
  EXPECT_EQ(stall_of("Your name is Lyra", prompt, 4, true), Stall::kNone);
}

TEST(Stalling, PeriodIsTheShortestCycle) {
  EXPECT_EQ(repetition_period({"a", "b", "a", "b", "a", "b", "a", "b"}), 2);
  EXPECT_EQ(repetition_period({"a", "b", "c", "d", "e", "f", "g", "h"}), 0);
  EXPECT_EQ(repetition_period({"no", "no", "no"}), 0) << "too short to call it a loop";
}

TEST(Scores, KnowledgeSplitsFourWays) {
  const Probe probe{.id = "x",
                    .prompt = "What is the capital of France?",
                    .markers = {"Lyon"},
                    .parametric = {"Paris"}};
  const auto kind = [&](const char* text) { return score(probe, text, 5, true).knowledge; };
  EXPECT_EQ(kind("It is Lyon."), Knowledge::kInjected);
  EXPECT_EQ(kind("It is Paris."), Knowledge::kParametric);
  EXPECT_EQ(kind("Not Paris but Lyon."), Knowledge::kBoth);
  EXPECT_EQ(kind("I do not know."), Knowledge::kOther);
}

TEST(Scores, PartialIsAShareOfMarkers) {
  const Probe probe{.id = "x", .prompt = "Who are you?", .markers = {"Lyra", "Seattle"}};
  EXPECT_DOUBLE_EQ(score(probe, "I am Lyra", 3, true).partial, 0.5);
  EXPECT_FALSE(score(probe, "I am Lyra", 3, true).exact);
  EXPECT_TRUE(score(probe, "Lyra, seattle", 3, true).exact);
}

}  // namespace
}  // namespace kvlingua
