#include "kvlingua/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

Json qwen3() {
  return Json::parse(
      R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","vocab_size":151936,"hidden_size":1024,
    "intermediate_size":3072,"num_hidden_layers":28,"num_attention_heads":16,"num_key_value_heads":8,"head_dim":128,
    "hidden_act":"silu","max_position_embeddings":40960,"rms_norm_eps":1e-06,"rope_theta":1000000,"rope_scaling":null,
    "attention_bias":false,"sliding_window":null,"use_sliding_window":false,"max_window_layers":28,
    "tie_word_embeddings":true,"bos_token_id":151643,"eos_token_id":151645})");
}

Json llama() {
  return Json::parse(
      R"({"architectures":["LlamaForCausalLM"],"vocab_size":100,"hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":2048})");
}

Json with(Json config, const std::string& patch) {
  config.merge_patch(Json::parse(patch));
  return config;
}

ModelConfig read(const Json& config, const std::string& generation = {}) {
  return ModelConfig::from_json(config.dump(), generation);
}

std::string message_of(const std::string& text, ExitCode code = ExitCode::kInput) {
  try {
    ModelConfig::from_json(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}
std::string message_of(const Json& config) { return message_of(config.dump()); }

TEST(ModelConfig, Qwen3HasTheParametersOfThePublishedModel) {
  const ModelConfig config =
      read(qwen3(), R"({"eos_token_id":[151645,151643],"bos_token_id":151643})");
  EXPECT_EQ(config.parameter_count(), 596049920);  // Qwen3-0.6B as published
  EXPECT_EQ(config.kv_shape(), (KvShape{28, 8, 128}));
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.eos_ids, (std::vector<int64_t>{151645, 151643}));
  EXPECT_EQ(config.bos_id, 151643);
}

TEST(ModelConfig, DefaultsAreThoseOfTransformers) {
  const ModelConfig config = read(llama());
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.eos_ids, std::vector<int64_t>{2});
  EXPECT_EQ(config.bos_id, 1);
  EXPECT_EQ(read(with(llama(), R"({"num_key_value_heads":null})")).num_kv_heads, 4);
  EXPECT_TRUE(read(llama(), R"({"eos_token_id":[7,8]})").eos_ids == (std::vector<int64_t>{7, 8}));
  Json no_ids = llama();
  no_ids["eos_token_id"] = nullptr;
  no_ids["bos_token_id"] = nullptr;
  EXPECT_TRUE(read(no_ids).eos_ids.empty());
  EXPECT_EQ(read(no_ids).bos_id, -1);
  Json q = qwen3();
  q.erase("head_dim");
  EXPECT_EQ(read(q).head_dim, 128);
  EXPECT_TRUE(read(with(q, R"({"architectures":["Qwen2ForCausalLM"]})")).qkv_bias);
  EXPECT_EQ(read(with(q, R"({"architectures":["Qwen2ForCausalLM"]})")).head_dim, 64);
}

TEST(ModelConfig, RopeInAllItsPlaces) {
  EXPECT_EQ(read(with(llama(), R"({"rope_parameters":{"rope_theta":5e5,"rope_type":"default"}})"))
                .rope.theta,
            5e5);
  EXPECT_EQ(
      read(with(llama(), R"({"rope_theta":3.0,"rope_parameters":{"rope_theta":5e5}})")).rope.theta,
      5e5);
  const RopeSpec linear =
      read(with(llama(), R"({"rope_scaling":{"type":"linear","factor":2}})")).rope;
  EXPECT_EQ(linear.type, RopeType::kLinear);
  EXPECT_EQ(linear.factor, 2.0);
  const RopeSpec llama3 =
      read(with(llama(),
                R"({"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":32.0,
      "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}})"))
          .rope;
  EXPECT_EQ(llama3.type, RopeType::kLlama3);
  EXPECT_EQ(llama3.original_max_position, 8192);
  EXPECT_EQ(llama3.attention_factor, 1.0);
}

TEST(ModelConfig, YarnAttentionFactor) {
  const auto yarn = [](const std::string& extra) {
    return read(with(llama(), R"({"rope_scaling":{"rope_type":"yarn","factor":4.0)" + extra + "}}"))
        .rope;
  };
  EXPECT_DOUBLE_EQ(yarn("").attention_factor, 0.1 * std::log(4.0) + 1.0);
  EXPECT_EQ(yarn("").original_max_position, 2048);
  EXPECT_EQ(yarn("").beta_fast, 32.0);
  EXPECT_TRUE(yarn("").truncate);
  EXPECT_DOUBLE_EQ(yarn(R"(,"attention_factor":1.25)").attention_factor, 1.25);
  EXPECT_DOUBLE_EQ(yarn(R"(,"mscale":2.0,"mscale_all_dim":0.5)").attention_factor,
                   (0.2 * std::log(4.0) + 1.0) / (0.05 * std::log(4.0) + 1.0));
  EXPECT_DOUBLE_EQ(yarn(R"(,"mscale":2.0)").attention_factor, 0.1 * std::log(4.0) + 1.0);
  EXPECT_FALSE(yarn(R"(,"truncate":false)").truncate);
  // factor null: the growth of the context
  const std::string null_factor =
      R"({"architectures":["LlamaForCausalLM"],"vocab_size":100,"hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":2,"num_attention_heads":4,"max_position_embeddings":8192,
    "rope_scaling":{"rope_type":"yarn","factor":null,"original_max_position_embeddings":2048}})";
  EXPECT_EQ(ModelConfig::from_json(null_factor).rope.factor, 4.0);
}

TEST(ModelConfig, RefusesByName) {
  const auto refused = [](const std::string& patch) { return message_of(with(qwen3(), patch)); };
  EXPECT_THAT(refused(R"({"architectures":["MistralForCausalLM"]})"),
              HasSubstr("got MistralForCausalLM, expected Qwen2ForCausalLM"));
  EXPECT_THAT(refused(R"({"architectures":[]})"), HasSubstr("got model_type qwen3"));
  EXPECT_THAT(refused(R"({"quantization_config":{"quant_method":"gptq"}})"),
              HasSubstr("got gptq, expected bitsandbytes nf4 or int8"));
  EXPECT_THAT(refused(R"({"hidden_act":"gelu"})"),
              HasSubstr("hidden_act: activation not supported: got gelu"));
  for (const char* type : {"dynamic", "longrope", "su", "mrope"}) {
    EXPECT_THAT(refused(std::string(R"({"rope_scaling":{"type":")") + type + R"(","factor":2.0}})"),
                HasSubstr(std::string("RoPE type not supported: got ") + type));
  }
  EXPECT_THAT(refused(R"({"rope_parameters":{"full_attention":{"rope_theta":1.0}}})"),
              HasSubstr("differs between layers"));
  EXPECT_THAT(refused(R"({"partial_rotary_factor":0.5})"), HasSubstr("partial rotation"));
  EXPECT_THAT(refused(R"({"rope_scaling":{"rope_type":"llama3","factor":8.0}})"),
              HasSubstr("low_freq_factor: missing"));
  EXPECT_THAT(refused(R"({"rope_scaling":{"rope_type":"linear"}})"), HasSubstr("factor: missing"));
  EXPECT_THAT(refused(R"({"rope_scaling":{"rope_type":"yarn"}})"), HasSubstr("factor: missing"));
}

TEST(ModelConfig, SlidingWindowOnlyWhereItBites) {
  const auto patched = [](const std::string& patch) { return message_of(with(qwen3(), patch)); };
  EXPECT_EQ(patched(R"({"sliding_window":4096})"), "accepted");  // not in use
  EXPECT_EQ(patched(R"({"use_sliding_window":true,"sliding_window":4096})"),
            "accepted");  // from layer 28 of 28 on
  EXPECT_EQ(patched(R"({"use_sliding_window":true,"sliding_window":40960,"max_window_layers":0})"),
            "accepted");
  EXPECT_THAT(
      patched(R"({"use_sliding_window":true,"sliding_window":4096,"max_window_layers":21})"),
      HasSubstr("sliding-window attention"));
  Json types = qwen3();
  types["layer_types"] = Json(std::vector<std::string>(28, "full_attention"));
  types["use_sliding_window"] = true;
  types["sliding_window"] = 4096;
  types["max_window_layers"] = 0;
  EXPECT_EQ(message_of(types), "accepted");  // layer_types decide
  types["layer_types"][3] = "sliding_attention";
  EXPECT_THAT(message_of(types), HasSubstr("sliding-window attention"));
  types["layer_types"][3] = "linear_attention";
  EXPECT_THAT(message_of(types), HasSubstr("layer type not supported"));
  types["layer_types"] = Json::array({"full_attention"});
  EXPECT_THAT(message_of(types), HasSubstr("layer_types: wrong length: got 1, expected 28 names"));
}

TEST(ModelConfig, RangesAndTypes) {
  const auto refused = [](const std::string& patch) { return message_of(with(qwen3(), patch)); };
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads"}) {
    EXPECT_THAT(refused(std::string("{\"") + key + "\":0}"),
                HasSubstr(std::string("config.json: ") + key + ": out of range: got 0"));
    EXPECT_THAT(refused(std::string("{\"") + key + "\":-1}"), HasSubstr("out of range"));
    EXPECT_THAT(refused(std::string("{\"") + key + "\":18446744073709551615}"),
                HasSubstr("out of range"));
    EXPECT_THAT(refused(std::string("{\"") + key + "\":1.5}"), HasSubstr("wrong type"));
    EXPECT_THAT(refused(std::string("{\"") + key + "\":\"1\"}"), HasSubstr("wrong type"));
    EXPECT_THAT(refused(std::string("{\"") + key + "\":null}"), HasSubstr("missing"));
  }
  EXPECT_THAT(refused(R"({"num_key_value_heads":3})"),
              HasSubstr("does not divide the heads: got 3"));
  EXPECT_THAT(refused(R"({"head_dim":127})"), HasSubstr("head_dim"));
  EXPECT_THAT(refused(R"({"rope_theta":0})"), HasSubstr("rope_theta: out of range"));
  EXPECT_THAT(refused(R"({"rms_norm_eps":-1e-6})"), HasSubstr("rms_norm_eps"));
  EXPECT_THAT(refused(R"({"tie_word_embeddings":1})"), HasSubstr("expected true or false"));
  EXPECT_THAT(refused(R"({"eos_token_id":[1,"2"]})"), HasSubstr("not a token id"));
  EXPECT_THAT(refused(R"({"eos_token_id":-1})"), HasSubstr("not a token id"));
  EXPECT_THAT(message_of(with(llama(), R"({"hidden_size":66})")),
              HasSubstr("not a multiple of num_attention_heads"));
  EXPECT_THAT(message_of("{\"architectures\":", ExitCode::kCorrupt), HasSubstr(": malformed JSON"));
  EXPECT_THAT(message_of("[]", ExitCode::kCorrupt), HasSubstr("expected an object"));
  EXPECT_THAT(message_of(R"({"a":1,"a":2})", ExitCode::kCorrupt), HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(message_of(std::string(100000, '['), ExitCode::kCorrupt), HasSubstr("nested deeper"));
}

TEST(ModelConfig, RoundTripsThroughJson) {
  std::vector<Json> configs{qwen3(), llama(),
                            with(qwen3(), R"({"architectures":["Qwen2ForCausalLM"]})")};
  configs.push_back(with(
      llama(),
      R"({"attention_bias":true,"mlp_bias":true,"rope_scaling":{"type":"linear","factor":2.5}})"));
  configs.push_back(
      with(qwen3(), R"({"attention_bias":true,"rope_scaling":{"rope_type":"yarn","factor":4.0,
      "original_max_position_embeddings":32768,"beta_fast":16,"truncate":false},"eos_token_id":[1,2]})"));
  configs.push_back(
      with(llama(), R"({"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
      "high_freq_factor":4.0,"original_max_position_embeddings":1024}})"));
  for (const Json& source : configs) {
    const ModelConfig config = read(source);
    const ModelConfig back = ModelConfig::from_json(config.to_json());
    EXPECT_EQ(back.to_json(), config.to_json());
    EXPECT_EQ(back.rope, config.rope) << config.to_json();
    EXPECT_EQ(back.parameter_count(), config.parameter_count());
    EXPECT_EQ(back.eos_ids, config.eos_ids);
    EXPECT_EQ(back.o_bias, config.o_bias);
  }
}

}  // namespace
}  // namespace kvlingua
