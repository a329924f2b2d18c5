// GGUF files against their Hugging Face twins (scripts/goldens/gguf_files.py): equal configs, equal
// caches bit for bit, and for a file of every type of block the caches of transformers.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/cache/rope.h"
#include "kvlingua/io/json.h"
#include "kvlingua/model/causal_lm.h"
#include "support/temp_dir.h"
#include "support/tensors.h"

namespace kvlingua {
namespace {

using testing::distance;
using testing::ids_of;
using testing::tensor_of;

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(KVLINGUA_TEST_DATA) / name;
}

PrefillResult read(const CausalLM& model, const std::vector<int64_t>& ids) {
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  return model.prefill(TokenBatch::from_rows({ids}), nullptr, options);
}

class Gguf : public ::testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path twin() const { return data(std::string("model/") + GetParam()); }
  std::filesystem::path file() const { return data(std::string("gguf/") + GetParam() + ".gguf"); }
};
INSTANTIATE_TEST_SUITE_P(Architectures, Gguf,
                         ::testing::Values("qwen2_tied", "qwen3_head_dim", "llama_gqa_f16"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Gguf, HasItsTwinsConfig) {
  ModelConfig twin_config = ModelConfig::from_directory(twin());
  EXPECT_EQ(ModelConfig::from_directory(file()).to_json(), twin_config.to_json());
}

TEST_P(Gguf, GivesItsTwinsCachesBitForBit) {
  const auto ids =
      ids_of(tensor_of(SafetensorsFile::open(twin() / "expected.safetensors"), "tokens"));
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const bool streaming : {false, true}) {
      LoadOptions load;
      load.dtype = type;
      load.layer_streaming = streaming;
      const PrefillResult expected = read(CausalLM::load(twin(), load), ids),
                          got = read(CausalLM::load(file(), load), ids);
      EXPECT_TRUE(at::equal(got.cache.keys(), expected.cache.keys()));
      EXPECT_TRUE(at::equal(got.cache.values(), expected.cache.values()));
      EXPECT_TRUE(at::equal(got.logits, expected.logits));
    }
  }
}

TEST_P(Gguf, IsAnotherArtifactThanItsTwin) {
  const CausalLM model = CausalLM::load(file()), other = CausalLM::load(twin());
  EXPECT_TRUE(model.fingerprint().starts_with("gguf-")) << model.fingerprint();
  EXPECT_NE(model.fingerprint(), other.fingerprint());
  LoadOptions load;
  load.weights = weight_options("nf4");
  EXPECT_TRUE(CausalLM::load(file(), load).fingerprint().starts_with("nf4-double-gguf-"));
}

// Quantised at load from a GGUF file and from its twin: the same codes.
TEST_P(Gguf, QuantisesAsItsTwin) {
  for (const char* format : {"nf4", "int8"}) {
    LoadOptions load;
    load.weights = weight_options(format);
    const std::vector<int64_t> ids = {3, 1, 4, 1, 5, 9, 2, 6};
    EXPECT_TRUE(at::equal(read(CausalLM::load(file(), load), ids).logits,
                          read(CausalLM::load(twin(), load), ids).logits));
  }
}

// The twin's folder with Llama 3.1's rope in its config.
std::filesystem::path llama3_twin(const std::filesystem::path& folder) {
  const std::filesystem::path from = data("model/llama_gqa_f16");
  std::filesystem::copy_file(from / "model.safetensors", folder / "model.safetensors");
  nlohmann::json config = parse_json(read_text_file(from / "config.json"), "config.json");
  config["rope_theta"] = 500000.0;
  config["max_position_embeddings"] = 131072;
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8192}};
  std::ofstream(folder / "config.json") << config.dump();
  return folder;
}

// The file holds a divisor for each frequency and no parameters: they are found again.
TEST(GgufLlama3, ItsRopeIsItsTwins) {
  const TempDir folder;
  const std::filesystem::path twin = llama3_twin(folder.path()),
                              file = data("gguf/llama3_rope.gguf");
  EXPECT_EQ(ModelConfig::from_directory(file).to_json(),
            ModelConfig::from_directory(twin).to_json());
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 120; ++i) ids.push_back(i * 37 % 64);
  const PrefillResult expected = read(CausalLM::load(twin), ids),
                      got = read(CausalLM::load(file), ids),
                      plain = read(CausalLM::load(data("gguf/llama_gqa_f16.gguf")), ids);
  EXPECT_TRUE(at::equal(got.cache.keys(), expected.cache.keys()));
  EXPECT_TRUE(at::equal(got.logits, expected.logits));
  EXPECT_FALSE(at::equal(got.cache.keys(), plain.cache.keys()));
  // The fourth frequency, of the longest wave, is an eighth; the first is as it was.
  const at::Tensor scaled = inverse_frequencies(CausalLM::load(file).rope());
  EXPECT_NEAR(scaled[3].item<double>(), std::pow(5e5, -0.75) / 8, 1e-9);
  EXPECT_EQ(scaled[0].item<double>(), 1);
}

TEST(GgufLlama3, AnotherContextThanItsIsRefusedByItsNumbers) {
  try {
    CausalLM::load(data("gguf/llama3_rope_4096.gguf"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rope_freqs.weight"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("RoPE scaling not supported"));
  }
}

TEST(GgufMixed, EveryTypeOfBlockAsTransformers) {
  const auto golden = SafetensorsFile::open(data("gguf/mixed.safetensors"));
  for (const bool streaming : {false, true}) {
    LoadOptions load;
    load.layer_streaming = streaming;
    const CausalLM model = CausalLM::load(data("gguf/mixed.gguf"), load);
    const PrefillResult got = read(model, ids_of(tensor_of(golden, "tokens")));
    EXPECT_LT(distance(got.logits[0], tensor_of(golden, "logits")), 1e-4);
    EXPECT_LT(distance(got.cache.keys().select(1, 0), tensor_of(golden, "keys")), 1e-4);
    EXPECT_LT(distance(got.cache.values().select(1, 0), tensor_of(golden, "values")), 1e-4);
  }
}

}  // namespace
}  // namespace kvlingua
