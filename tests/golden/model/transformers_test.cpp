// Tiny models of every architecture and option against transformers (scripts/goldens/model.py):
// logits, keys and values of every token within 1e-4, greedy text, padded batches.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "kvlingua/model/causal_lm.h"
#include "kvlingua/model/generation.h"
#include "support/tensors.h"

namespace kvlingua {
namespace {

using testing::distance;
using testing::ids_of;
using testing::tensor_of;

std::filesystem::path directory(const std::string& name) {
  return std::filesystem::path(KVLINGUA_TEST_DATA) / "model" / name;
}

class Transformers : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Tiny, Transformers,
                         ::testing::Values("qwen2_tied", "qwen2_untied_sharded_bf16", "qwen2_yarn",
                                           "qwen3_head_dim", "qwen3_bias_untied", "llama_gqa_f16",
                                           "llama_linear", "llama_llama3", "llama_yarn_bias"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Transformers, LogitsKeysAndValues) {
  const CausalLM model = CausalLM::load(directory(GetParam()));
  const auto golden = SafetensorsFile::open(directory(GetParam()) / "expected.safetensors");
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  const auto batch = TokenBatch::from_rows({ids_of(tensor_of(golden, "tokens"))});
  for (const bool differentiable : {false, true}) {
    model.parameters()[0].second.requires_grad_(differentiable);
    const PrefillResult got = model.prefill(batch, nullptr, options);
    ASSERT_EQ(got.logits.requires_grad(), differentiable);
    const at::NoGradGuard no_grad;
    EXPECT_LT(distance(got.logits[0], tensor_of(golden, "logits")), 1e-4);
    EXPECT_LT(distance(got.cache.keys().select(1, 0), tensor_of(golden, "keys")), 1e-4);
    EXPECT_LT(distance(got.cache.values().select(1, 0), tensor_of(golden, "values")), 1e-4);
  }
}

TEST_P(Transformers, PaddedBatch) {
  const CausalLM model = CausalLM::load(directory(GetParam()));
  const auto golden = SafetensorsFile::open(directory(GetParam()) / "expected.safetensors");
  TokenBatch batch;
  batch.ids_BT = tensor_of(golden, "batch_tokens");
  batch.mask_BT = tensor_of(golden, "batch_mask").to(at::kBool);
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  const at::Tensor got = model.prefill(batch, nullptr, options).logits * batch.mask_BT.unsqueeze(2);
  EXPECT_LT(distance(got, tensor_of(golden, "batch_logits")), 1e-4);
}

TEST_P(Transformers, GreedyText) {
  const CausalLM model = CausalLM::load(directory(GetParam()));
  const auto golden = SafetensorsFile::open(directory(GetParam()) / "expected.safetensors");
  GenerationOptions options;
  options.max_new_tokens = 20;
  const auto rows = generate(model, TokenBatch::from_rows({ids_of(tensor_of(golden, "prompt"))}),
                             nullptr, options);
  EXPECT_EQ(rows[0].ids, ids_of(tensor_of(golden, "greedy")));
  EXPECT_EQ(rows[0].finish_reason(), "length");
}

// Half types: the same model within the rounding of its type, and the bytes that type takes.
TEST_P(Transformers, ComputesInBfloat16) {
  LoadOptions load;
  load.dtype = at::kBFloat16;
  const CausalLM model = CausalLM::load(directory(GetParam()), load);
  const auto golden = SafetensorsFile::open(directory(GetParam()) / "expected.safetensors");
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  const PrefillResult got =
      model.prefill(TokenBatch::from_rows({ids_of(tensor_of(golden, "tokens"))}), nullptr, options);
  EXPECT_EQ(got.logits.scalar_type(), at::kFloat);
  EXPECT_EQ(got.cache.keys().scalar_type(), at::kBFloat16);
  const at::Tensor keys = tensor_of(golden, "keys");
  EXPECT_LT((got.cache.keys().select(1, 0).to(at::kFloat) - keys).norm().item<double>(),
            0.05 * keys.norm().item<double>());
}

TEST_P(Transformers, SaveAndLoadAgain) {
  const CausalLM model = CausalLM::load(directory(GetParam()));
  const auto folder = std::filesystem::temp_directory_path() /
                      ("kvlingua_save_" + std::to_string(getpid()) + "_" + GetParam());
  model.save(folder, at::kFloat);
  const CausalLM again = CausalLM::load(folder);
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    EXPECT_EQ(again.parameters()[i].first, model.parameters()[i].first);
    EXPECT_TRUE(at::equal(again.parameters()[i].second, model.parameters()[i].second))
        << model.parameters()[i].first;
  }
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  const auto batch = TokenBatch::from_rows({{1, 5, 9, 33}});
  EXPECT_TRUE(at::equal(model.prefill(batch, nullptr, options).logits,
                        again.prefill(batch, nullptr, options).logits));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace kvlingua
