// Damaged and misfitting model directories: one line that names file and tensor, and the exit code.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/io/safetensors_writer.h"
#include "kvlingua/model/causal_lm.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

class Load : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("kvlingua_load_" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
    testing::tiny_model(Architecture::kLlama).save(folder_, at::kFloat);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Rewrites the weights; `change` may edit, drop (undefined) or, by name, add tensors.
  template <class F>
  void rewrite(F change, at::ScalarType type = at::kFloat) {
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const auto& [name, t] : testing::tiny_model(Architecture::kLlama).parameters())
      tensors.emplace_back(name, t.clone());
    change(tensors);
    std::vector<SafetensorsEntry> entries;
    for (auto& [name, t] : tensors) {
      t = t.to(type).contiguous();
      entries.push_back({name,
                         type == at::kFloat ? SafetensorsDtype::kF32 : SafetensorsDtype::kBF16,
                         t.sizes().vec()});
    }
    SafetensorsWriter writer(folder_ / "model.safetensors", entries);
    for (const auto& [name, t] : tensors)
      writer.write(
          {static_cast<const std::byte*>(t.const_data_ptr()), static_cast<size_t>(t.nbytes())});
    writer.finish();
  }

  void expect_error(ExitCode code, const std::vector<std::string>& words,
                    const LoadOptions& options = {}) {
    try {
      CausalLM::load(folder_, options);
      FAIL() << "loaded";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& word : words)
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }

  using Tensors = std::vector<std::pair<std::string, at::Tensor>>;
  static at::Tensor& find(Tensors& tensors, const std::string& name) {
    for (auto& [n, t] : tensors) {
      if (n == name) return t;
    }
    throw std::runtime_error("no " + name);
  }
  std::filesystem::path folder_;
};

TEST_F(Load, Intact) {
  EXPECT_EQ(CausalLM::load(folder_).weight_bytes(),
            testing::tiny_model(Architecture::kLlama).weight_bytes());
}

TEST_F(Load, TruncatedFile) {
  std::filesystem::resize_file(folder_ / "model.safetensors",
                               std::filesystem::file_size(folder_ / "model.safetensors") - 10);
  expect_error(ExitCode::kCorrupt, {"model.safetensors"});
}

TEST_F(Load, NoWeights) {
  std::filesystem::remove(folder_ / "model.safetensors");
  expect_error(ExitCode::kInput, {folder_.string()});
}

TEST_F(Load, WrongShape) {
  rewrite([](Tensors& t) { find(t, "model.layers.1.mlp.down_proj.weight") = at::zeros({32, 47}); });
  expect_error(ExitCode::kInput, {"model.safetensors", "model.layers.1.mlp.down_proj.weight",
                                  "[32, 47]", "[32, 48]"});
}

TEST_F(Load, MissingTensor) {
  rewrite([](Tensors& t) {
    std::erase_if(t, [](const auto& p) { return p.first == "model.norm.weight"; });
  });
  expect_error(ExitCode::kInput, {"model.safetensors", "model.norm.weight: missing"});
}

TEST_F(Load, UnexpectedTensor) {
  rewrite(
      [](Tensors& t) { t.emplace_back("model.layers.3.input_layernorm.weight", at::ones({32})); });
  expect_error(ExitCode::kInput, {"model.layers.3.input_layernorm.weight: unexpected"});
}

TEST_F(Load, RotaryBuffersAndATiedHeadAreIgnored) {
  rewrite([](Tensors& t) {
    t.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", at::ones({4}));
    t.emplace_back("lm_head.weight", find(t, "model.embed_tokens.weight").clone());
  });
  EXPECT_NO_THROW(CausalLM::load(folder_));
}

TEST_F(Load, NotANumberIsNamed) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    rewrite([&](Tensors& t) { find(t, "model.layers.2.self_attn.k_proj.weight")[3][17] = bad; });
    expect_error(ExitCode::kInput, {"model.safetensors", "model.layers.2.self_attn.k_proj.weight",
                                    "not a number at [3, 17]"});
  }
}

TEST_F(Load, LargeButFiniteWeightsAreFine) {
  rewrite([](Tensors& t) {
    find(t, "model.embed_tokens.weight").fill_(3e38);
  });  // their sum overflows, they do not
  EXPECT_NO_THROW(CausalLM::load(folder_));
}

TEST_F(Load, WhatDoesNotFitHalfIsNamed) {
  rewrite([](Tensors& t) { find(t, "model.norm.weight")[5] = 70000.0; });
  LoadOptions half;
  half.dtype = at::kHalf;
  expect_error(ExitCode::kInput, {"model.norm.weight", "does not fit Half at [5]", "70000"}, half);
  EXPECT_NO_THROW(CausalLM::load(folder_));
}

TEST_F(Load, FingerprintFollowsTheWeights) {
  const std::string first = CausalLM::load(folder_).fingerprint();
  EXPECT_EQ(CausalLM::load(folder_).fingerprint(), first);
  rewrite([](Tensors& t) { find(t, "model.norm.weight").mul_(1.5); });
  EXPECT_NE(CausalLM::load(folder_).fingerprint(), first);
}

TEST_F(Load, ConfigThatCannotBeComputed) {
  std::ifstream in(folder_ / "config.json");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto at_heads = text.find("\"num_key_value_heads\"");
  ASSERT_NE(at_heads, std::string::npos);
  text.replace(text.find('2', at_heads), 1, "3");
  std::ofstream(folder_ / "config.json") << text;
  expect_error(ExitCode::kInput, {"config.json", "num_key_value_heads"});
}

}  // namespace
}  // namespace kvlingua
