// A model that keeps one layer at a time gives the numbers of the resident one, bit for bit, and
// refuses what it cannot do.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"
#include "kvlingua/model/generation.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

class Streaming : public ::testing::TestWithParam<Architecture> {
 protected:
  void SetUp() override {
    testing::tiny_model(GetParam(), 1, GetParam() != Architecture::kLlama)
        .save(folder_.path(), at::kFloat);
  }
  const TempDir folder_;
};

TEST_P(Streaming, EqualsTheResidentModelBitForBit) {
  const CausalLM resident = CausalLM::load(folder_.path());
  const CausalLM streamed = CausalLM::load(folder_.path(), {.layer_streaming = true});
  EXPECT_TRUE(streamed.streams_layers());
  EXPECT_EQ(streamed.fingerprint(), resident.fingerprint());
  EXPECT_LT(streamed.weight_bytes(), resident.weight_bytes());
  const TokenBatch batch = TokenBatch::from_rows({{1, 2, 3, 4, 5, 6}, {7, 8, 9}});
  PrefillOptions all;
  all.logits = LogitsAt::kAll;
  all.want_queries = all.want_hidden = true;
  const PrefillResult a = resident.prefill(batch, nullptr, all),
                      b = streamed.prefill(batch, nullptr, all);
  EXPECT_TRUE(at::equal(a.logits, b.logits));
  EXPECT_TRUE(at::equal(a.hidden, b.hidden));
  EXPECT_TRUE(at::equal(a.queries, b.queries));
  EXPECT_EQ(a.cache.fingerprint(), b.cache.fingerprint());
  // After a past, and token by token.
  const TokenBatch more = TokenBatch::from_rows({{11, 12}, {13, 14}});
  EXPECT_TRUE(at::equal(resident.prefill(more, &a.cache).cache.keys(),
                        streamed.prefill(more, &b.cache).cache.keys()));
  const auto first = generate(resident, more, &a.cache, {.max_new_tokens = 6}),
             second = generate(streamed, more, &b.cache, {.max_new_tokens = 6});
  for (size_t r = 0; r < 2; ++r) {
    EXPECT_EQ(first[r].ids, second[r].ids);
    EXPECT_EQ(first[r].logprobs, second[r].logprobs);
  }
}

// Codes travel instead of floats, and the layer that is being computed is not the one that comes.
TEST_P(Streaming, QuantisedLayersEqualTheResidentOnes) {
  for (const char* format : {"nf4", "int8"}) {
    LoadOptions load;
    load.weights = weight_options(format);
    const CausalLM resident = CausalLM::load(folder_.path(), load);
    load.layer_streaming = true;
    const CausalLM streamed = CausalLM::load(folder_.path(), load);
    EXPECT_EQ(streamed.fingerprint(), resident.fingerprint());
    const TokenBatch batch = TokenBatch::from_rows({{1, 2, 3, 4, 5, 6}, {7, 8, 9}});
    for (int pass = 0; pass < 3; ++pass)
      EXPECT_EQ(resident.prefill(batch).cache.fingerprint(),
                streamed.prefill(batch).cache.fingerprint());
  }
}

// A file that is damaged in a later layer is refused when that layer comes, every time.
TEST_P(Streaming, WhatComesAheadFailsWhereItIsUsed) {
  const std::filesystem::path file = folder_.path() / "model.safetensors";
  const std::string bytes = read_text_file(file);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const auto header = parse_json(bytes.substr(8, length), "header");
  const auto begin = header["model.layers.2.mlp.down_proj.weight"]["data_offsets"][0];
  const float bad = std::numeric_limits<float>::quiet_NaN();
  const CausalLM streamed = CausalLM::load(folder_.path(), {.layer_streaming = true});
  {
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(8 + length + begin.get<uint64_t>()));
    out.write(reinterpret_cast<const char*>(&bad), sizeof bad);
  }
  for (int pass = 0; pass < 2; ++pass) {
    try {
      streamed.prefill(TokenBatch::from_rows({{1, 2, 3}}));
      FAIL() << "a layer with a nan was used";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("layers.2.mlp.down_proj"), std::string::npos)
          << error.what();
    }
  }
}

TEST_P(Streaming, RefusesTraining) {
  const CausalLM streamed = CausalLM::load(folder_.path(), {.layer_streaming = true});
  const TempDir elsewhere;
  EXPECT_THROW(streamed.parameters(), Error);
  EXPECT_THROW(streamed.save(elsewhere.path() / "copy", at::kFloat), Error);
  KvCache past = streamed.prefill(TokenBatch::from_rows({{1, 2, 3}})).cache;
  past.keys().requires_grad_(true);
  try {
    streamed.prefill(TokenBatch::from_rows({{4}}), &past);
    FAIL() << "gradients through a streamed model";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("gradients"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Streaming,
                         ::testing::Values(Architecture::kQwen2, Architecture::kQwen3,
                                           Architecture::kLlama),
                         [](const auto& info) { return to_string(info.param).substr(0, 5); });

}  // namespace
}  // namespace kvlingua
