// Conversations as two templates write them: where contents stand, and how their tokens are
// aligned.
#include "datasets/corpus/chat_turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "datasets/generate.h"
#include "datasets/generation/sample_builder.h"
#include "datasets/pairs/pair_reader.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

const std::vector<ChatMessage> kTalk{
    {"user", "user"}, {"assistant", "Größe: ß"}, {"user", ""}, {"assistant", "yes"}};

// Substring by code points, of texts where the test keeps to ASCII markup.
std::string piece(const std::string& text, std::pair<int64_t, int64_t> range) {
  std::string out;
  int64_t at = -1;
  for (char c : text) {
    at += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (at >= range.first && at < range.second) out += c;
  }
  return out;
}

TEST(ChatTurns, ContentsStandWhereTheyAreSaidToStand) {
  for (const ChatFamily family : {ChatFamily::kQwen25, ChatFamily::kSmolLM2, ChatFamily::kZephyr}) {
    for (const std::string system : {"", "Be brief."}) {
      ChatOptions options;
      options.add_generation_prompt = false;
      const RenderedTurns turns = render_turns(family, kTalk, system, options);
      std::vector<ChatMessage> all = kTalk;
      if (!system.empty()) all.insert(all.begin(), {"system", system});
      EXPECT_EQ(turns.text, render_chat(family, all, options));
      ASSERT_EQ(turns.contents.size(), kTalk.size());
      for (size_t i = 0; i < kTalk.size(); ++i)
        EXPECT_EQ(piece(turns.text, turns.contents[i]), kTalk[i].content) << to_string(family);
      // The first content is the message "user", not the role before it.
      EXPECT_EQ(
          turns.text.substr(0, static_cast<size_t>(turns.first_content())).find("\nuser\nuser"),
          std::string::npos);
    }
  }
}

TEST(ChatTurns, TokensKeepTheirContent) {
  const RenderedTurns a = render_turns(ChatFamily::kQwen25, kTalk, "", {}),
                      b = render_turns(ChatFamily::kZephyr, kTalk, "", {});
  Encoding every;  // a token a character
  for (int64_t i = 0; i < a.length; ++i) {
    every.ids.push_back(i);
    every.offsets.emplace_back(i, i + 1);
  }
  const Encoding moved = in_coordinates_of(b, a, every);
  int64_t last = 0;
  for (int64_t i = 0; i < a.length; ++i) {
    const auto [begin, end] = moved.offsets[static_cast<size_t>(i)];
    EXPECT_LE(last, begin);
    EXPECT_LE(begin, end);
    EXPECT_LE(end, b.length);
    last = begin;
    for (size_t k = 0; k < kTalk.size(); ++k) {
      const bool inside = i >= a.contents[k].first && i < a.contents[k].second;
      const bool there = begin >= b.contents[k].first && end <= b.contents[k].second && end > begin;
      if (inside) {
        EXPECT_EQ(begin - b.contents[k].first, i - a.contents[k].first);
        EXPECT_EQ(end, begin + 1);
      }
      EXPECT_EQ(inside, there) << "character " << i << ", turn " << k;
    }
  }
}

// Two models, two templates, one conversation file.
TEST(ChatTurns, PairsAreMadeOfWhatEachTemplateWrites) {
  set_log_level(LogLevel::kError);
  const TempDir dir;
  testing::save_tiny_pair(dir.path());
  {
    std::ofstream file(dir / "talks.jsonl");
    for (int i = 0; i < 12; ++i) {
      file << R"({"conversations": [{"from": "human", "value": "The color of )" << i
           << R"( is red."}, {"from": "gpt", "value": "It is )" << i
           << R"( then."}, {"from": "human", "value": "Why?"}]})"
           << "\n";
    }
  }
  Recipe recipe = testing::tiny_recipe(
      dir.path(), "  files: [" + (dir / "talks.jsonl").string() + "]\n  validation: 0\n");
  recipe.data.kind = "sharegpt";
  recipe.data.max_length = 300;
  recipe.data.split = "all";
  recipe.pair.source.chat = "zephyr";
  generate(recipe, testing::tiny_context(dir.path()));
  const PairReader reader = PairReader::open(dir / "datasets/tiny");
  ASSERT_EQ(reader.samples(), 12);
  const Tokenizer source = Tokenizer::from_directory(dir / "source"),
                  target = Tokenizer::from_directory(dir / "target");
  const auto text_of = [](const Tokenizer& t, const std::vector<int32_t>& ids) {
    return t.decode({ids.begin(), ids.end()});
  };
  for (int64_t i = 0; i < reader.samples(); ++i) {
    const SampleRecord r = reader.record(i);
    const std::string theirs = text_of(source, r.source.ids), ours = text_of(target, r.target.ids);
    EXPECT_THAT(ours, HasSubstr("<|im_start|>user\nThe color of "));
    EXPECT_THAT(ours, HasSubstr("<|im_start|>assistant\nIt is "));
    EXPECT_EQ(ours, r.text);
    EXPECT_THAT(theirs, HasSubstr("<|user|>\nThe color of "));
    EXPECT_THAT(theirs, HasSubstr("<|assistant|>\nIt is "));
    // Rows begin with the first content; a row's token and its source's token write the same end.
    ASSERT_FALSE(r.target.row_token.empty());
    std::string kept;
    for (size_t k = 0; k < r.target.row_token.size(); ++k) {
      const int32_t id = r.target.ids[static_cast<size_t>(r.target.row_token[k])];
      const std::string token = target.decode({id});
      kept += token;
      const auto row = static_cast<size_t>(r.target_source_row[k]);
      const std::string of =
          source.decode({r.source.ids[static_cast<size_t>(r.source.row_token[row])]});
      if (token == " red" || token == "red" || token == ".") {
        EXPECT_EQ(token.back(), of.back()) << token << " from " << of;
      }
    }
    EXPECT_EQ(kept.rfind("The color of", 0), 0U) << kept;
    EXPECT_THAT(kept, HasSubstr("Why?"));
    EXPECT_GT(r.alignment_covered, .9);
  }
}

TEST(ChatTurns, LongConversationsLoseTheirLastTurns) {
  set_log_level(LogLevel::kError);
  const TempDir dir;
  testing::save_tiny_pair(dir.path());
  const Tokenizer tokenizer = Tokenizer::from_directory(dir / "target");
  ModelOptions model;
  model.chat = "qwen2.5";
  DataOptions data;
  data.kind = "chat";
  data.max_length = 160;
  data.min_length = 1;
  const TextReader reader =
      TextReader::of(tokenizer, model, {.max_position_embeddings = 4096}, Framing::kEveryTurn);
  const SampleBuilder builder(reader, reader, data, AlignmentKind::kIdentity, 1);
  Document document;
  document.messages = {{"user", "The color of the sky is red."},
                       {"assistant", "It is blue, and nothing else that anybody has ever seen."},
                       {"user", std::string(900, 'x')}};
  document.text = document.group = "all of it";
  const auto sample = builder.build(document, 0, true);
  ASSERT_TRUE(sample.has_value());
  EXPECT_LE(sample->target.ids.size(), 160U);
  EXPECT_THAT(sample->text, HasSubstr("The color of the sky is red."));
  EXPECT_THAT(sample->text, ::testing::Not(HasSubstr("xxxx")));
  document.messages = {{"user", std::string(3000, 'y')}};
  const auto cut = builder.build(document, 1, true);
  ASSERT_TRUE(cut.has_value());
  EXPECT_LE(cut->target.ids.size(), 160U);
  EXPECT_THAT(cut->text, HasSubstr("y<|im_end|>"));
}

}  // namespace
}  // namespace kvlingua
