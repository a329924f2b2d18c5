#include "kvlingua/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

TEST(BpeTrainer, MergesTheMostFrequentPairFirst) {
  BpeTrainer trainer;
  trainer.add("low low low lower newest newest");
  const BpeVocabulary vocabulary = trainer.train(259);
  // l-o occurs 4 times, as o-w does; "lo" wins because l is the older symbol. Then lo-w, then "
  // "-low (3).
  ASSERT_EQ(vocabulary.merges.size(), 3u);
  EXPECT_EQ(vocabulary.merges[0], (std::pair<std::string, std::string>{"l", "o"}));
  EXPECT_EQ(vocabulary.merges[1], (std::pair<std::string, std::string>{"lo", "w"}));
  EXPECT_EQ(vocabulary.merges[2], (std::pair<std::string, std::string>{" ", "low"}));
  EXPECT_EQ(vocabulary.tokens.size(), 259u);
  EXPECT_EQ(vocabulary.tokens[258], " low");
}

TEST(BpeTrainer, NeverMergesAcrossWordsOrDigits) {
  BpeTrainer trainer;
  for (int i = 0; i < 50; ++i) trainer.add("ab 1234\n\nab");
  for (const auto& token : trainer.train(400).tokens) {
    EXPECT_TRUE(token.size() < 2 || token == " ab" || token == "ab" || token == "\n\n") << token;
  }
}

TEST(BpeTrainer, StopsWhenPairsAreRare) {
  BpeTrainer trainer;
  trainer.add("abc");
  EXPECT_EQ(trainer.train(300, 2).tokens.size(), 256u);
  EXPECT_EQ(trainer.train(300, 1).tokens.size(), 258u);
}

TEST(BpeTrainer, WritesATokenizerFile) {
  BpeTrainer trainer;
  for (int i = 0; i < 5; ++i) trainer.add("the cat, the caf\u00e9");
  const BpeVocabulary vocabulary = trainer.train(262);
  const auto file =
      nlohmann::json::parse(to_tokenizer_json(vocabulary, {{"<|end|>"}, {"<think>", false}}));
  EXPECT_EQ(file["model"]["vocab"].size(), vocabulary.tokens.size());
  EXPECT_EQ(file["model"]["vocab"]["\u0120"], 32);  // the space, as GPT-2's table writes it
  EXPECT_TRUE(file["model"]["vocab"].contains("the")) << file["model"]["merges"];
  EXPECT_EQ(file["model"]["merges"].size(), vocabulary.merges.size());
  EXPECT_EQ(file["added_tokens"][0]["id"], vocabulary.tokens.size());
  EXPECT_EQ(file["added_tokens"][1]["special"], false);
}

TEST(BpeTrainer, BadInputIsRefused) {
  BpeTrainer trainer;
  EXPECT_THROW(trainer.add("ab\xff\xfe"), Error);
  EXPECT_THROW(trainer.train(10), Error);
}

}  // namespace
}  // namespace kvlingua
