#include "datasets/corpus/families.h"

#include <gtest/gtest.h>

#include <cctype>
#include <set>

#include "datasets/corpus/synthetic_language.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

struct Case {
  FamilyStyle style;
  std::string family;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (auto style : {FamilyStyle::kNano, FamilyStyle::kEnglish}) {
    for (const auto& family : family_names()) all.push_back({style, family});
  }
  return all;
}

class Families : public testing::TestWithParam<Case> {
 protected:
  std::vector<FamilyItem> make(Split split, int64_t n, bool completion = false,
                               uint64_t seed = 5) const {
    return make_family({.family = GetParam().family,
                        .completion = completion,
                        .split = split,
                        .n = n,
                        .seed = seed,
                        .style = GetParam().style});
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// "rede" does not state that something is red.
bool has_word(const std::string& text, const std::string& word) {
  for (size_t at = text.find(" " + word); at != std::string::npos;
       at = text.find(" " + word, at + 1)) {
    const size_t end = at + 1 + word.size();
    if (end == text.size() || std::isalpha(static_cast<unsigned char>(text[end])) == 0) return true;
  }
  return false;
}

TEST_P(Families, ItemsAreWellFormed) {
  for (bool completion : {false, true}) {
    for (const auto& item : make(Split::kHeldOut, 600, completion)) {
      SCOPED_TRACE(item.id + ": " + item.context + " | " + item.prompt + " | " + item.answer);
      ASSERT_FALSE(item.context.empty());
      ASSERT_FALSE(item.prompt.empty());
      ASSERT_FALSE(item.markers.empty());
      EXPECT_EQ(item.completion, completion);
      EXPECT_EQ(item.prompt.back() == '?' || item.prompt.back() == '.', !completion);
      EXPECT_EQ(item.answer.front() == ' ', completion);
      for (const auto& marker : item.markers) {
        EXPECT_TRUE(contains(item.context, marker));
        EXPECT_TRUE(contains(item.answer, marker));
        EXPECT_FALSE(contains(item.prompt, marker)) << "the answer is in the question";
      }
      EXPECT_EQ(item.parametric.empty(), item.family != "counterfact");
      for (const auto& known : item.parametric) {
        EXPECT_FALSE(has_word(item.context, known)) << "the context states the truth";
        EXPECT_FALSE(has_word(item.answer, known));
      }
      EXPECT_FALSE(contains(item.context, "{"));
    }
  }
}

TEST_P(Families, ValuesOfTheSplitsNeverMeet) {
  std::set<std::string> train;
  for (const auto& item : make(Split::kTrain, 1000)) {
    train.insert(item.markers.begin(), item.markers.end());
  }
  for (const auto& item : make(Split::kHeldOut, 600)) {
    for (const auto& marker : item.markers) EXPECT_FALSE(train.count(marker)) << marker;
  }
}

TEST_P(Families, ItemsAreDistinctAndRepeatable) {
  const auto items = make(Split::kHeldOut, 600);
  ASSERT_EQ(items.size(), 600u);
  std::set<std::string> ids, contents;
  for (const auto& item : items) {
    ids.insert(item.id);
    contents.insert(item.group + "\n" + item.answer);
  }
  EXPECT_EQ(ids.size(), items.size());
  EXPECT_EQ(contents.size(), items.size());
  const auto fewer = make(Split::kHeldOut, 50);
  for (size_t i = 0; i < fewer.size(); ++i) {
    EXPECT_EQ(fewer[i].context, items[i].context);
    EXPECT_EQ(fewer[i].prompt, items[i].prompt);
  }
  EXPECT_NE(make(Split::kHeldOut, 1, false, 6)[0].context, items[0].context);
}

TEST_P(Families, TheTwoFormsHaveTheSameContents) {
  const auto questions = make(Split::kHeldOut, 100, false);
  const auto completions = make(Split::kHeldOut, 100, true);
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_EQ(questions[i].context, completions[i].context);
    EXPECT_EQ(questions[i].markers, completions[i].markers);
    EXPECT_EQ(questions[i].answer, completions[i].prompt + completions[i].answer);
    EXPECT_NE(questions[i].id, completions[i].id);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Families, testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.family + (info.param.style == FamilyStyle::kNano ? "Nano" : "English");
});

TEST(FamilyRequests, BadOnesAreRefused) {
  EXPECT_THROW(make_family({.family = "idntity"}), Error);
  EXPECT_THROW(make_family({.n = 0}), Error);
  try {
    make_family({.family = "counterfact", .n = 200'000, .style = FamilyStyle::kEnglish});
    FAIL() << "there are not that many counterfacts";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
  }
}

TEST(NanoLanguage, FactsAreSixtyAndDistinct) {
  std::set<std::string> subjects;
  for (const auto& fact : known_facts()) subjects.insert(fact.subject);
  EXPECT_EQ(known_facts().size(), 60u);
  EXPECT_EQ(subjects.size(), 60u);
}

TEST(NanoLanguage, SplitHoldsOutAQuarter) {
  Random random(1);
  int held_out = 0;
  for (int i = 0; i < 4000; ++i)
    held_out += split_of("value " + std::to_string(i)) == Split::kHeldOut;
  EXPECT_NEAR(held_out / 4000.0, .25, .03);
}

}  // namespace
}  // namespace kvlingua
