// config.json files as transformers understands them: shapes, biases, RoPE with its frequencies,
// parameter counts, ids.
//
// With KVLINGUA_UPDATE_GOLDENS=1 the written forms under data/model_config/written/ are renewed;
// afterwards scripts/goldens/model_config.py --written must find that transformers reads them as
// the originals.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kvlingua/cache/rope.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"
#include "kvlingua/model/model_config.h"

namespace kvlingua {
namespace {

const std::filesystem::path kData = std::filesystem::path(KVLINGUA_TEST_DATA) / "model_config";

nlohmann::json cases() {
  return parse_json(read_text_file(kData / "cases.json"), "cases.json").at("cases");
}

TEST(ModelConfigGolden, UnderstoodAsTransformersDoes) {
  const nlohmann::json all = cases();
  ASSERT_GT(all.size(), 20u);
  for (const auto& [name, row] : all.items()) {
    SCOPED_TRACE(name);
    const nlohmann::json& expected = row.at("understood");
    const ModelConfig config = ModelConfig::from_json(row.at("config").dump(), {}, name);
    EXPECT_EQ(config.parameter_count(), expected["parameters"]);
    EXPECT_EQ(config.head_dim, expected["head_dim"]);
    EXPECT_EQ(config.num_kv_heads, expected["kv_heads"]);
    EXPECT_EQ(config.max_position_embeddings, expected["max_position_embeddings"]);
    EXPECT_EQ(config.rms_norm_eps, expected["rms_norm_eps"]);
    EXPECT_EQ(config.tie_word_embeddings, expected["tied"]);
    EXPECT_EQ(config.qkv_bias, expected["qkv_bias"]);
    EXPECT_EQ(config.o_bias, expected["o_bias"]);
    EXPECT_EQ(config.mlp_bias, expected["mlp_bias"]);
    EXPECT_EQ(config.qk_norm, expected["qk_norm"]);
    EXPECT_EQ(nlohmann::json(config.eos_ids), expected["eos_ids"]);
    EXPECT_EQ(config.bos_id, expected["bos_id"]);
    EXPECT_EQ(to_string(config.rope.type), expected["rope_type"].get<std::string>());
    EXPECT_EQ(config.rope.theta, expected["rope_theta"]);
    EXPECT_DOUBLE_EQ(config.rope.attention_factor, expected["attention_factor"].get<double>());
    const at::Tensor ours = inverse_frequencies(config.rope);
    const auto theirs = expected["inv_freq"].get<std::vector<float>>();
    ASSERT_EQ(ours.numel(), static_cast<int64_t>(theirs.size()));
    for (size_t i = 0; i < theirs.size(); ++i) {
      EXPECT_NEAR(ours[static_cast<int64_t>(i)].item<float>(), theirs[i], 2e-7f * theirs[i])
          << "channel pair " << i;
    }
  }
}

TEST(ModelConfigGolden, WrittenAsTransformersReads) {
  const bool update = std::getenv("KVLINGUA_UPDATE_GOLDENS") != nullptr;
  const nlohmann::json all = cases();
  ASSERT_GT(all.size(), 20u);
  for (const auto& [name, row] : all.items()) {
    SCOPED_TRACE(name);
    const std::string written = ModelConfig::from_json(row.at("config").dump(), {}, name).to_json();
    const std::filesystem::path path = kData / "written" / (name + ".json");
    if (update) {
      make_directories(path.parent_path());
      write_file_atomic(path, written);
    }
    EXPECT_EQ(read_text_file(path), written);
  }
}

}  // namespace
}  // namespace kvlingua
