// Real weights (SmolLM2-135M-Instruct under KVLINGUA_MODELS) against transformers: logits within
// 1e-3 and the same greedy text over 64 tokens for five prompts (scripts/goldens/model.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kvlingua/model/causal_lm.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {
namespace {

TEST(Smollm2, EqualsTransformers) {
  const char* models = std::getenv("KVLINGUA_MODELS");
  const auto directory =
      std::filesystem::path(models != nullptr ? models : "") / "smollm2-135m-instruct";
  if (models == nullptr || !std::filesystem::exists(directory / "config.json")) {
    GTEST_SKIP() << "KVLINGUA_MODELS does not hold smollm2-135m-instruct";
  }
  std::ifstream file(std::string(KVLINGUA_TEST_DATA) + "/model/real/smollm2-135m-instruct.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  const CausalLM model = CausalLM::load(directory);
  std::vector<std::vector<int64_t>> prompts;
  for (const auto& item : golden.at("items")) {
    prompts.push_back(item.at("ids"));
    PrefillOptions options;
    options.logits = LogitsAt::kLast;
    const at::Tensor logits =
        model.prefill(TokenBatch::from_rows({prompts.back()}), nullptr, options).logits[0];
    for (size_t i = 0; i < item.at("logits").size(); ++i) {
      EXPECT_NEAR(logits[item.at("logit_ids")[i].get<int64_t>()].item<float>(),
                  item.at("logits")[i].get<float>(), 1e-3)
          << item.at("prompt");
    }
  }
  GenerationOptions options;
  options.max_new_tokens = 64;
  const auto together = generate(model, TokenBatch::from_rows(prompts, true), nullptr, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<int64_t> expected = golden.at("items")[i].at("greedy");
    EXPECT_EQ(generate(model, TokenBatch::from_rows({prompts[i]}), nullptr, options)[0].ids,
              expected)
        << golden.at("items")[i].at("prompt");
    EXPECT_EQ(together[i].ids, expected) << "in a batch of five";
  }
}

}  // namespace
}  // namespace kvlingua
