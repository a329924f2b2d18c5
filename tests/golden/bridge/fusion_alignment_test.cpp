// Chats aligned token by token as Cache-to-Cache's own aligner does it
// (scripts/goldens/c2c_alignment.py).
#include "kvlingua/bridge/fusion_alignment.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
const fs::path kData = KVLINGUA_TEST_DATA;

Tokenizer tokenizer(const std::string& name) {
  std::ifstream in(kData / "text" / name / "tokenizer.json", std::ios::binary);
  const std::string json{std::istreambuf_iterator<char>(in), {}};
  return Tokenizer::from_json(json, R"({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})");
}

ChatFamily family(const std::string& name) {
  return name == "qwen" ? ChatFamily::kQwen3 : ChatFamily::kSmolLM2;
}

TEST(FusionAlignment, ChatsAsItsOwnAligner) {
  std::ifstream in(kData / "c2c" / "alignment.json");
  const auto record = nlohmann::json::parse(in);
  int several = 0;
  for (const auto& c : record["cases"]) {
    const auto target_name = c["target"].get<std::string>(),
               source_name = c["source"].get<std::string>();
    const Tokenizer target = tokenizer(target_name), source = tokenizer(source_name);
    std::vector<ChatMessage> messages;
    for (const auto& m : c["messages"])
      messages.push_back({m["role"].get<std::string>(), m["content"].get<std::string>()});
    TokenAligner aligner(target, source,
                         alignment_kind_from_name(c["strategy"].get<std::string>()));
    const FusionSample sample =
        aligned_chat_sample(messages, {.tokenizer = &target, .family = family(target_name)},
                            {.tokenizer = &source, .family = family(source_name)}, aligner);
    const std::string what = c.dump().substr(0, 120);
    EXPECT_EQ(sample.target_ids, c["target_ids"].get<std::vector<int64_t>>()) << what;
    EXPECT_EQ(sample.source_ids.at(0), c["source_ids"].get<std::vector<int64_t>>()) << what;
    const auto message = c["message"].get<std::vector<int>>();
    size_t boundary = 0;  // the last message begins
    for (size_t i = 1; i < message.size(); ++i) {
      if (message[i] && !message[i - 1]) boundary = i;
    }
    ASSERT_EQ(sample.selector.size(), message.size());
    for (size_t i = 0; i < message.size(); ++i) {
      EXPECT_EQ(sample.target_real[i], !c["target_padding"][i].get<int>()) << what << i;
      EXPECT_EQ(sample.source_real.at(0)[i], !c["source_padding"][i].get<int>()) << what << i;
      EXPECT_EQ(sample.selector[i] > 0, message[i] && i + 1 < boundary) << what << i;
      const bool learnt = i >= boundary && sample.target_real[i];
      EXPECT_EQ(sample.labels[i], learnt ? sample.target_ids[i] : kIgnoredLabel) << what << i;
    }
    const FusionBatch batch = collate_fusion({sample});
    several += batch.sections.size() > 3;
  }
  EXPECT_GT(several, 2);  // more than one content in between: the sections mean something
}

TEST(FusionAlignment, RefusesWhatCannotBeAligned) {
  const Tokenizer t = tokenizer("qwen");
  EXPECT_THROW(TokenAligner(t, t, AlignmentKind::kLastChar), Error);
  TokenAligner aligner(t, t, AlignmentKind::kFirst);
  const TextReader reader{.tokenizer = &t, .family = ChatFamily::kQwen3};
  EXPECT_THROW(aligned_chat_sample({{"user", ""}, {"assistant", "x"}}, reader, reader, aligner),
               Error);
}

// One tokenizer on both sides: every token is its own.
TEST(FusionAlignment, EqualTokenizersAlignToThemselves) {
  const Tokenizer t = tokenizer("smollm2");
  for (const auto kind : {AlignmentKind::kFirst, AlignmentKind::kLongest}) {
    TokenAligner aligner(t, t, kind);
    for (const int64_t id : t.encode("The capital of France is Paris, 42 times.", false).ids)
      EXPECT_EQ(aligner(id), id);
    EXPECT_EQ(aligner(*t.token_to_id("<|im_start|>")), *t.token_to_id("<|im_start|>"));
  }
}

}  // namespace
}  // namespace kvlingua
