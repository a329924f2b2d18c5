#include "datasets/corpus/synthetic_corpus.h"

#include <gtest/gtest.h>

#include <set>

#include "datasets/corpus/families.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

const ChatFrame kFrame = {"<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"};

std::string whole(const std::vector<WeightedText>& pieces) {
  std::string text;
  for (const auto& piece : pieces) text += piece.text;
  return text;
}

std::string whole(uint64_t seed, uint64_t index) {
  return whole(render(SyntheticCorpus(seed).dialogue(index), kFrame));
}

TEST(SyntheticCorpus, IsAFunctionOfSeedAndIndex) {
  std::set<std::string> distinct;
  for (uint64_t i = 0; i < 500; ++i) {
    EXPECT_EQ(whole(7, i), whole(7, i));
    distinct.insert(whole(7, i));
  }
  EXPECT_GT(distinct.size(), 420u);  // short ones ("What is the capital of Peru?") repeat
  EXPECT_NE(whole(7, 0), whole(8, 0));
}

// What a model is trained on must be what it is asked: the layout of ChatFrame.
TEST(SyntheticCorpus, FirstTurnHasTheLayoutOfAllPrompts) {
  int questions = 0, completions = 0, bare = 0;
  for (uint64_t i = 0; i < 500; ++i) {
    const SyntheticDialogue dialogue = SyntheticCorpus(1).dialogue(i);
    const SyntheticTurn& turn = dialogue.turns.front();
    const std::string text = whole(render(dialogue, kFrame));
    std::string expected = kFrame.before + dialogue.context;
    if (turn.question.empty()) {
      expected += kFrame.after + turn.beginning;
      ++completions;
    } else if (dialogue.context.empty()) {
      expected += turn.question + kFrame.after;
      ++bare;
    } else {
      expected += "\n" + turn.question + kFrame.after;
      ++questions;
    }
    EXPECT_TRUE(text.starts_with(expected + turn.answer + "<|im_end|>")) << text;
  }
  EXPECT_GT(questions, 150);
  EXPECT_GT(completions, 50);
  EXPECT_GT(bare, 100);
}

TEST(SyntheticCorpus, AnswersCountMostAndEndTheTurn) {
  for (uint64_t i = 0; i < 200; ++i) {
    const SyntheticDialogue dialogue = SyntheticCorpus(2).dialogue(i);
    size_t answers = 0;
    for (const auto& piece : render(dialogue, kFrame)) {
      if (piece.weight != 1.0F) continue;
      ASSERT_LT(answers, dialogue.turns.size());
      EXPECT_EQ(piece.text, dialogue.turns[answers++].answer + "<|im_end|>");
    }
    EXPECT_EQ(answers, dialogue.turns.size());
  }
}

TEST(SyntheticCorpus, StatedAnswersStandInTheContextAndOthersAreKnown) {
  int stated = 0, known = 0, unknown = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    const SyntheticDialogue dialogue = SyntheticCorpus(3).dialogue(i);
    for (const auto& turn : dialogue.turns) {
      const std::string answer = turn.beginning + turn.answer;
      if (answer.starts_with("Again:")) continue;
      if (answer == kNanoUnknown || turn.answer == kNanoUnknownRest) {
        ++unknown;
        continue;
      }
      const size_t space = answer.rfind(' ');
      const std::string value = answer.substr(space + 1, answer.size() - space - 2);
      if (dialogue.context.find(value) != std::string::npos) {
        ++stated;
        continue;
      }
      bool is_fact = false;
      for (const auto& fact : known_facts()) is_fact |= fact.value == value;
      EXPECT_TRUE(is_fact) << dialogue.context << " / " << answer;
      ++known;
    }
  }
  EXPECT_GT(stated, 1200);
  EXPECT_GT(known, 400);
  EXPECT_GT(unknown, 200);
}

TEST(SyntheticCorpus, HeldOutValuesNeverOccur) {
  std::set<std::string> held_out;
  for (const auto& family : family_names()) {
    for (const auto& item : make_family({.family = family, .n = 300, .seed = 1})) {
      held_out.insert(item.markers.begin(), item.markers.end());
    }
  }
  for (uint64_t i = 0; i < 3000; ++i) {
    std::string word;
    for (char c : whole(4, i) + SyntheticCorpus(4).context(i) + " ") {
      if (isalpha(static_cast<unsigned char>(c))) {
        word += c;
        continue;
      }
      EXPECT_FALSE(held_out.count(word)) << word;
      word.clear();
    }
  }
}

TEST(SyntheticCorpus, ContextsForPairsAreNeverEmpty) {
  const SyntheticCorpus corpus(5);
  std::set<std::string> distinct;
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_FALSE(corpus.context(i).empty());
    distinct.insert(corpus.context(i));
  }
  EXPECT_GT(distinct.size(), 990u);
  EXPECT_NE(corpus.context(0, Split::kHeldOut), corpus.context(0, Split::kTrain));
}

TEST(SyntheticCorpus, OtherTemplatesAreRefused) {
  EXPECT_THROW(render(SyntheticCorpus(1).dialogue(0), {"[INST] ", " [/INST]"}), Error);
}

}  // namespace
}  // namespace kvlingua
