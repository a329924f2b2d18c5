// What the goldens do not say: bad files, bad text, threads, fingerprints, special ids.
#include "kvlingua/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "kvlingua/base/error.h"
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json small() {
  return json::parse(
      R"({"version": "1.0", "added_tokens": [{"id": 5, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": ["a b", ["ab", "c"]]}})");
}

Tokenizer load(const json& spec, const std::string& config = {}) {
  return Tokenizer::from_json(spec.dump(), config, "t.json");
}

// The message of the error that loading ends with.
std::string refusal(const std::string& text, ExitCode code, const std::string& config = {}) {
  try {
    Tokenizer::from_json(text, config, "t.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}
std::string refused(const json& spec, ExitCode code) { return refusal(spec.dump(), code); }

json patched(const std::string& pointer, const json& value) {
  json spec = small();
  spec[json::json_pointer(pointer)] = value;
  return spec;
}

TEST(Tokenizer, MergesByRank) {
  const Tokenizer tokenizer = load(small());
  EXPECT_EQ(tokenizer.encode("abcab").ids, (std::vector<int64_t>{4, 3}));
  EXPECT_EQ(tokenizer.encode("a<s>b").ids, (std::vector<int64_t>{0, 5, 1}));
  EXPECT_EQ(tokenizer.vocab_size(), 6);
  EXPECT_TRUE(tokenizer.is_special(5));
  EXPECT_FALSE(tokenizer.is_special(0));
  EXPECT_EQ(tokenizer.id_to_token(5), "<s>");
  EXPECT_EQ(tokenizer.token_to_id("abc"), 4);
  EXPECT_EQ(tokenizer.token_to_id("zz"), std::nullopt);
  EXPECT_THROW(tokenizer.id_to_token(6), Error);
  EXPECT_EQ(tokenizer.decode({0, 99, 1}), "a b");
  EXPECT_EQ(tokenizer.decode({0, 5, 1}, true), "a b");
}

TEST(Tokenizer, NamesTheByteThatIsNotUtf8) {
  const Tokenizer tokenizer = load(small());
  const std::vector<std::pair<std::string, int>> cases = {{"\x80", 0},
                                                          {"ab\xC3", 2},
                                                          {"a\xC0\x80", 1},
                                                          {"\xED\xA0\x80", 0},
                                                          {"x\xF4\x90\x80\x80", 1},
                                                          {"\xE2\x82", 0},
                                                          {"é\xFF", 2},
                                                          {"\xF0\x9F\x98", 0}};
  for (const auto& [text, at] : cases) {
    try {
      tokenizer.encode(text);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInput);
      EXPECT_THAT(error.what(), HasSubstr(cat("not valid UTF-8 at byte ", at)));
    }
  }
}

TEST(Tokenizer, RefusesDamagedFiles) {
  EXPECT_THAT(refusal("", ExitCode::kCorrupt), HasSubstr("t.json:1:1: malformed JSON"));
  EXPECT_THAT(refusal("{\"model\": ", ExitCode::kCorrupt), HasSubstr("malformed JSON"));
  EXPECT_THAT(refusal("[1, 2]", ExitCode::kCorrupt),
              HasSubstr("wrong type: got array, expected an object"));
  EXPECT_THAT(refusal("{}", ExitCode::kCorrupt), HasSubstr("model"));
  EXPECT_THAT(refusal(std::string(100000, '['), ExitCode::kCorrupt), HasSubstr("nested deeper"));
  EXPECT_THAT(
      refusal(R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": []}})", ExitCode::kCorrupt),
      HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(refused(patched("/model/vocab/abc", -1), ExitCode::kCorrupt),
              HasSubstr("t.json: model.vocab[\"abc\"]: negative id: got -1"));
  EXPECT_THAT(refused(patched("/model/vocab/abc", 3), ExitCode::kCorrupt),
              HasSubstr("id given twice"));
  EXPECT_THAT(refused(patched("/model/vocab/abc", 9), ExitCode::kCorrupt),
              HasSubstr("ids have a hole: got id 9"));
  EXPECT_THAT(refused(patched("/model/vocab/abc", 4.5), ExitCode::kCorrupt),
              HasSubstr("expected an integer"));
  EXPECT_THAT(refused(patched("/model/vocab/abc", 18446744073709551615ULL), ExitCode::kCorrupt),
              HasSubstr("too large"));
  EXPECT_THAT(refused(patched("/model/merges/1", "ab z"), ExitCode::kCorrupt),
              HasSubstr("model.merges[1]: token not in the vocabulary: got z"));
  EXPECT_THAT(refused(patched("/model/merges/1", "b c"), ExitCode::kCorrupt), HasSubstr("got bc"));
  EXPECT_THAT(refused(patched("/model/merges/1", "a b c"), ExitCode::kCorrupt),
              HasSubstr("not a merge"));
  EXPECT_THAT(refused(patched("/model/merges/1", 7), ExitCode::kCorrupt), HasSubstr("not a merge"));
  EXPECT_THAT(refused(patched("/model/unk_token", "?"), ExitCode::kCorrupt),
              HasSubstr("model.unk_token: not in the vocabulary"));
  EXPECT_THAT(refused(patched("/added_tokens/0/id", 7), ExitCode::kCorrupt),
              HasSubstr("id of <s>: got 7, expected 5, the next free id"));
  EXPECT_THAT(refused(patched("/added_tokens/0/content", "a"), ExitCode::kCorrupt),
              HasSubstr("expected 0 as in the vocabulary"));
  EXPECT_THAT(refused(patched("/added_tokens/0/content", ""), ExitCode::kCorrupt),
              HasSubstr("without content"));
}

TEST(Tokenizer, RefusesByNameWhatItDoesNotSupport) {
  const auto named = [](const std::string& pointer, const json& value, const std::string& words) {
    EXPECT_THAT(refused(patched(pointer, value), ExitCode::kInput), HasSubstr(words));
  };
  named("/normalizer", {{"type", "Lowercase"}},
        "t.json: normalizer: not supported: normalizer Lowercase");
  named("/pre_tokenizer", {{"type", "Whitespace"}}, "pre-tokenizer Whitespace");
  named("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Punctuation"}}}}},
        "pre_tokenizer.pretokenizers[0]: not supported");
  named("/post_processor", {{"type", "BertProcessing"}}, "post-processor BertProcessing");
  named("/decoder", {{"type", "WordPiece"}}, "decoder WordPiece");
  named("/model/type", "Unigram", "model Unigram");
  named("/version", "2.0", "version: not supported: 2.0");
  named("/model/dropout", 0.1, "model.dropout: not supported");
  named("/model/continuing_subword_prefix", "##", "continuing_subword_prefix");
  named("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  named("/model/extra", 1, "member extra");
  const auto regex = [&](const std::string& pattern, const std::string& words) {
    named("/pre_tokenizer",
          {{"type", "Split"},
           {"pattern", {{"Regex", pattern}}},
           {"behavior", "Isolated"},
           {"invert", false}},
          words);
  };
  regex("\\w+", "\\w at byte 0");
  regex("a{2}+", "suffix of an interval");
  regex("[a&&b]", "'&&' inside a class");
  regex("[[:alpha:]]", "'[' inside a class");
  regex("(?<name>a)", "group");
  regex("(a", "missing closing parenthesis");
  regex("\\p{Nonsense}", "pre_tokenizer.pattern.Regex");
  regex("", "an empty pattern");
  named("/normalizer", {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}},
        "an empty pattern");
}

TEST(Tokenizer, StopsARegexThatRunsAway) {
  const Tokenizer tokenizer = load(patched("/pre_tokenizer", {{"type", "Split"},
                                                              {"pattern", {{"Regex", "(a+)+$"}}},
                                                              {"behavior", "Isolated"},
                                                              {"invert", false}}));
  EXPECT_NO_THROW(tokenizer.encode("aaaa"));
  try {
    tokenizer.encode(std::string(64, 'a') + "b");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("too many steps"));
  }
}

TEST(Tokenizer, LongRunsStayLinear) {
  const Tokenizer tokenizer =
      Tokenizer::from_directory(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/qwen");
  for (const char* unit : {" ", "\n", "a", "1", "!", "é", "e\xCC\x81", " \n", "\xCC\x81"}) {
    std::string text;
    while (text.size() < 400000) text += unit;
    const Encoding encoding = tokenizer.encode(text + "x");
    EXPECT_GT(encoding.size(), 0U);
  }
}

TEST(Tokenizer, MissingFileSaysWhatToDo) {
  try {
    Tokenizer::from_directory("/nonexistent/model");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/model/tokenizer.json: missing"));
    EXPECT_THAT(error.what(), HasSubstr("download"));
  }
}

TEST(Tokenizer, ReadsSpecialTokensOfTheConfig) {
  const Tokenizer tokenizer = load(
      small(),
      R"({"bos_token": {"content": "<s>"}, "eos_token": "c", "pad_token": null, "chat_template": "{{ x }}"})");
  EXPECT_EQ(tokenizer.bos_id(), 5);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.pad_id(), std::nullopt);
  EXPECT_EQ(tokenizer.chat_template(), "{{ x }}");
  const Tokenizer named = load(
      small(),
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})");
  EXPECT_EQ(named.chat_template(), "D");
  // One that no file has yet is added, as transformers does.
  const Tokenizer more = load(small(), R"({"eos_token": "nope"})");
  EXPECT_EQ(more.eos_id(), tokenizer.vocab_size());
  EXPECT_EQ(more.encode("nope", false).ids, (std::vector<int64_t>{*more.eos_id()}));
}

TEST(Tokenizer, ReadsTheFilesOfADirectory) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "kvlingua_tokenizer";
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(folder / name) << text;
  };
  write("tokenizer.json", small().dump());
  write("tokenizer_config.json", R"({"chat_template": "old"})");
  write("generation_config.json",
        R"({"bos_token_id": 1, "eos_token_id": [4, 2], "pad_token_id": 9999})");
  write("chat_template.jinja", "new");
  const Tokenizer tokenizer = Tokenizer::from_directory(folder);
  EXPECT_EQ(tokenizer.chat_template(), "new");
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_EQ(tokenizer.eos_id(), 4);
  EXPECT_EQ(tokenizer.pad_id(), std::nullopt);  // beyond the vocabulary
  write("tokenizer_config.json", "{");
  EXPECT_THROW(Tokenizer::from_directory(folder), Error);
  std::filesystem::remove_all(folder);
}

TEST(Tokenizer, FingerprintSeesWhatChangesIdsAndNothingElse) {
  const std::string base = load(small()).fingerprint();
  EXPECT_EQ(base.size(), 64U);
  EXPECT_EQ(
      load(patched("/model/merges", json::parse(R"([["a", "b"], ["ab", "c"]])"))).fingerprint(),
      base);
  EXPECT_EQ(load(patched("/decoder", {{"type", "Fuse"}})).fingerprint(), base);
  EXPECT_NE(load(patched("/model/merges", {"ab c", "a b"})).fingerprint(), base);
  EXPECT_NE(load(patched("/model/ignore_merges", true)).fingerprint(), base);
  EXPECT_NE(load(patched("/normalizer", {{"type", "NFC"}})).fingerprint(), base);
  EXPECT_NE(load(patched("/added_tokens/0/content", "<t>")).fingerprint(), base);
  EXPECT_NE(load(patched("/added_tokens/0/lstrip", true)).fingerprint(), base);
}

TEST(Tokenizer, ThreadsAgree) {
  const Tokenizer tokenizer =
      Tokenizer::from_directory(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/llama3");
  const auto strings = testing::golden("strings.json")["strings"].get<std::vector<std::string>>();
  std::vector<std::vector<std::vector<int64_t>>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (const std::string& text : strings) result.push_back(tokenizer.encode(text).ids);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

TEST(StreamDecoder, HoldsAnUnfinishedCharacterBack) {
  const Tokenizer tokenizer =
      Tokenizer::from_directory(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/sentencepiece");
  const auto ids = tokenizer.encode("x😀", false).ids;
  StreamDecoder stream(tokenizer);
  std::vector<std::string> parts;
  for (int64_t id : ids) parts.push_back(stream.push(id));
  EXPECT_EQ(parts.front() + parts[1], "x");  // the space of the prefix is gone
  EXPECT_EQ(parts.back(), "😀");
  for (size_t i = 2; i + 1 < parts.size(); ++i) EXPECT_EQ(parts[i], "");
  StreamDecoder cut(tokenizer);
  std::string text;
  for (size_t i = 0; i + 1 < ids.size(); ++i) text += cut.push(ids[i]);
  EXPECT_EQ(text + cut.finish(), "x\xEF\xBF\xBD");
}

TEST(Tokenizer, TokenBytesMayBePartsOfCharacters) {
  const Tokenizer tokenizer =
      Tokenizer::from_directory(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/qwen");
  std::string bytes;
  for (int64_t id : tokenizer.encode("naïve 😀<|im_end|>").ids) bytes += tokenizer.token_bytes(id);
  EXPECT_EQ(bytes, "naïve 😀<|im_end|>");
  EXPECT_EQ(tokenizer.token_bytes(1 << 20), "");
}

}  // namespace
}  // namespace kvlingua
