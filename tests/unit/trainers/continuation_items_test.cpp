// Distillation items from any text: context, first word and answer are the text, in order; what is
// kept for validation stays apart.
#include "trainers/stages/continuation_items.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua {
namespace {

class ContinuationItems : public ::testing::Test {
 protected:
  ContinuationItems() {
    set_log_level(LogLevel::kError);
    kvlingua::testing::save_tiny_pair(dir_.path());
    source_.emplace(Tokenizer::from_directory(dir_ / "source"));
    target_.emplace(Tokenizer::from_directory(dir_ / "target"));
    std::ofstream corpus(dir_ / "corpus.txt");
    for (int i = 0; i < 80; ++i) {
      lines_.push_back("Line " + std::to_string(i) + " says that the wind in the town of the " +
                       std::to_string(i * 7) + " hills was heard by all who came.");
      corpus << lines_.back() << "\n";
    }
    corpus << "ab\n";
  }
  Recipe recipe(const std::vector<std::string>& set = {}) const {
    std::vector<std::string> all{"data.kind=plain",
                                 "data.files=[" + (dir_ / "corpus.txt").string() + "]",
                                 "data.split=all",
                                 "data.validation=0.25",
                                 "train.distillation.continuations=500",
                                 "train.distillation.max_answer=5"};
    all.insert(all.end(), set.begin(), set.end());
    return Recipe::from_yaml(kvlingua::testing::tiny_recipe(dir_.path()).to_yaml(), "tiny.yaml",
                             all);
  }
  TextReader reader(const Tokenizer& tokenizer, const ModelOptions& model) const {
    return TextReader::of(tokenizer, model, {.max_position_embeddings = 512});
  }
  std::vector<DistillationItem> items(const Recipe& r) const {
    std::vector<DistillationItem> all;
    add_continuation_items(
        Continuations(r, 3, 1, reader(*source_, r.pair.source), reader(*target_, r.pair.target)),
        r.train.distillation.continuations, 3, all);
    return all;
  }

  TempDir dir_;
  std::optional<Tokenizer> source_, target_;
  std::vector<std::string> lines_;
};

TEST_F(ContinuationItems, ContextWordAndAnswerAreTheTextInOrder) {
  const auto all = items(recipe());
  std::set<std::string> seen;
  for (const DistillationItem& item : all) {
    const std::string context = target_->decode(item.span), word = target_->decode(item.rest),
                      begun = context + word + target_->decode(item.answer);
    const auto line = std::find_if(lines_.begin(), lines_.end(),
                                   [&](const std::string& l) { return l.starts_with(begun); });
    ASSERT_NE(line, lines_.end()) << begun;
    EXPECT_EQ(source_->decode(item.source_span), context);
    EXPECT_GT(context.size(), line->size() / 5);
    EXPECT_LT(context.size(), line->size() * 4 / 5);
    EXPECT_EQ(word.front(), ' ');
    EXPECT_EQ(word.find(' ', 1), std::string::npos);
    EXPECT_LE(item.answer.size(), 5u);
    EXPECT_EQ(item.source_index.size(), item.span.size());
    EXPECT_TRUE(seen.insert(*line).second) << "twice: " << *line;
  }
  // A quarter of the lines is kept for validation, and "ab" cannot be divided.
  EXPECT_GT(all.size(), 45u);
  EXPECT_LT(all.size(), 72u);
}

TEST_F(ContinuationItems, AsManyAsAskedForAndRepeatable) {
  const auto some = items(recipe({"train.distillation.continuations=10"})),
             again = items(recipe({"train.distillation.continuations=10"}));
  ASSERT_EQ(some.size(), 10u);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(some[i].span, again[i].span);
}

TEST_F(ContinuationItems, NothingToDivideIsAnError) {
  std::ofstream(dir_ / "corpus.txt") << "a\nb\n";
  try {
    items(recipe());
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("train.distillation.continuations"), std::string::npos);
  }
}

// Drawn without end the documents come again, divided elsewhere.
TEST_F(ContinuationItems, FreshOnesGoRoundTheCorpus) {
  const Recipe r = recipe();
  const Continuations continuations(r, 3, 1, reader(*source_, r.pair.source),
                                    reader(*target_, r.pair.target));
  const auto documents = static_cast<uint64_t>(continuations.documents());
  int64_t divided_elsewhere = 0;
  for (uint64_t n = 0; n < documents; ++n) {
    const DistillationItem first = continuations.fresh(n), same = continuations.fresh(n),
                           again = continuations.fresh(n + documents);
    EXPECT_EQ(first.span, same.span);
    EXPECT_EQ(first.answer, same.answer);
    divided_elsewhere += first.span != again.span;
  }
  EXPECT_GT(divided_elsewhere, static_cast<int64_t>(documents) / 2);
}

TEST(Divide, TextWithoutSpacesIsDividedBetweenCharacters) {
  Random random(1);
  const std::string text = "春眠不覚暁処処聞啼鳥夜来風雨声";
  for (int i = 0; i < 20; ++i) {
    const auto d = divide(text, random);
    ASSERT_TRUE(d.has_value());
    EXPECT_EQ(d->context % 3, 0u);
    EXPECT_EQ(d->word, d->context + 3);
  }
  EXPECT_FALSE(divide("", random).has_value());
  EXPECT_FALSE(divide("ab", random).has_value());
}

}  // namespace
}  // namespace kvlingua
