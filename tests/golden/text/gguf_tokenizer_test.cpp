// Tokenizers out of GGUF files against the `tokenizers` they were made from
// (scripts/goldens/gguf_files.py): ids, offsets and decoded text equal.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {
namespace {

class GgufTokenizer : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Kinds, GgufTokenizer,
                         ::testing::Values("qwen2", "smollm", "llama-bpe", "sentencepiece"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(GgufTokenizer, GivesItsTwinsIds) {
  const auto base =
      std::filesystem::path(KVLINGUA_TEST_DATA) / "gguf" / (std::string("tokenizer_") + GetParam());
  const Tokenizer tokenizer = Tokenizer::from_directory(base.string() + ".gguf");
  const std::string expected_file = base.string() + ".json";
  const nlohmann::json expected = parse_json(read_text_file(expected_file), expected_file);
  EXPECT_EQ(tokenizer.vocab_size(), expected["vocab_size"].get<int64_t>());
  EXPECT_EQ(tokenizer.chat_template(), "{{ messages }}");
  EXPECT_TRUE(tokenizer.bos_id() && tokenizer.eos_id());
  ASSERT_FALSE(expected["cases"].empty());
  for (const auto& one : expected["cases"]) {
    const auto text = one["text"].get<std::string>();
    const Encoding encoding = tokenizer.encode(text);
    EXPECT_EQ(encoding.ids, one["ids"].get<std::vector<int64_t>>()) << text;
    EXPECT_EQ(nlohmann::json(encoding.offsets), one["offsets"]) << text;
    EXPECT_EQ(tokenizer.decode(encoding.ids), one["decoded"].get<std::string>()) << text;
  }
}

}  // namespace
}  // namespace kvlingua
