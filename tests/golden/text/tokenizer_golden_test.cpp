// Tokenizers against the `tokenizers` library: ids, offsets, decoding, for every family and for the
// options they leave unused.
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using testing::compare_rows;
using testing::golden;

std::filesystem::path data() { return std::filesystem::path(KVLINGUA_TEST_DATA) / "text"; }

class Family : public ::testing::TestWithParam<std::string> {};

TEST_P(Family, AgreesOnEveryString) {
  const auto strings = golden("strings.json")["strings"];
  ASSERT_GE(strings.size(), 500U);
  const Tokenizer tokenizer = Tokenizer::from_directory(data() / GetParam());
  EXPECT_EQ(compare_rows(tokenizer, golden(GetParam() + "/expected.json")["rows"], strings),
            strings.size());
}

// Streaming gives the decoded text, in parts that are whole characters.
TEST_P(Family, StreamsWholeCharacters) {
  const auto strings = golden("strings.json")["strings"];
  const Tokenizer tokenizer = Tokenizer::from_directory(data() / GetParam());
  for (const std::string text : strings) {
    const auto ids = tokenizer.encode(text, false).ids;
    StreamDecoder stream(tokenizer, false);
    std::string streamed;
    for (int64_t id : ids) {
      const std::string part = stream.push(id);
      EXPECT_NO_THROW(tokenizer.encode(part)) << "a cut character in " << text;
      streamed += part;
    }
    streamed += stream.finish();
    EXPECT_EQ(streamed, tokenizer.decode(ids, false));
  }
}

TEST_P(Family, IsDenseAndNamesItsTokens) {
  const Tokenizer tokenizer = Tokenizer::from_directory(data() / GetParam());
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id)
    EXPECT_EQ(tokenizer.token_to_id(tokenizer.id_to_token(id)), id);
}

INSTANTIATE_TEST_SUITE_P(All, Family,
                         ::testing::Values("qwen", "smollm2", "llama3", "sentencepiece"),
                         [](const auto& info) { return info.param; });

class Variant : public ::testing::TestWithParam<std::string> {};

TEST_P(Variant, AgreesOnEveryString) {
  const auto strings = golden("strings.json")["strings"];
  const auto variant = golden("variants/" + GetParam() + ".json");
  nlohmann::json spec = golden(variant["base"].get<std::string>() + "/tokenizer.json");
  for (const auto& [key, value] : variant["model"].items()) spec["model"][key] = value;
  for (const auto& [key, value] : variant["parts"].items()) spec[key] = value;
  const Tokenizer tokenizer = Tokenizer::from_json(spec.dump());
  EXPECT_GE(compare_rows(tokenizer, variant["rows"], strings), 100U);
}

INSTANTIATE_TEST_SUITE_P(All, Variant,
                         ::testing::Values("trim", "prefix", "removed", "previous", "next",
                                           "contiguous", "invert", "digits", "replace",
                                           "metaspace_always", "metaspace_first", "unk_fused",
                                           "unk_single"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace kvlingua
