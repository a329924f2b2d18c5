// What preflight says weights take is what they take.
#include "kvlingua/model/weight_plan.h"

#include <gtest/gtest.h>

#include "kvlingua/model/causal_lm.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

using testing::tiny_config;

TEST(WeightPlan, IsWhatALoadedModelTakes) {
  for (const Architecture architecture :
       {Architecture::kQwen2, Architecture::kQwen3, Architecture::kLlama}) {
    for (const bool tied : {true, false}) {
      const ModelConfig config = tiny_config(architecture, tied);
      for (const auto& options :
           {WeightOptions{}, WeightOptions{WeightFormat::kInt8, false},
            WeightOptions{WeightFormat::kNf4, false}, WeightOptions{WeightFormat::kNf4, true}}) {
        for (const auto type : {at::kFloat, at::kBFloat16}) {
          LoadOptions load;
          load.dtype = type;
          load.weights = options;
          EXPECT_EQ(held_weights(config, options, type == at::kFloat ? 4 : 2, "x").bytes,
                    CausalLM::random(config, load).weight_bytes());
        }
      }
    }
  }
}

TEST(WeightPlan, TakesTheMostExactThatFits) {
  ModelConfig config = tiny_config(Architecture::kQwen3, true);  // Qwen3-4B's shape
  config.vocab_size = 151936, config.hidden_size = 2560, config.intermediate_size = 9728;
  config.num_layers = 36, config.num_heads = 32, config.num_kv_heads = 8, config.head_dim = 128;
  const auto choices = weights_by_type(config, 2, "bfloat16");
  ASSERT_EQ(choices.size(), 4U);
  EXPECT_NEAR(static_cast<double>(choices[0].bytes), 8.04e9, 0.02e9);  // the published size
  for (size_t i = 1; i < choices.size(); ++i) EXPECT_LT(choices[i].bytes, choices[i - 1].bytes);
  EXPECT_EQ(best_fit(choices, 1e9, 10e9)->name, "bfloat16");
  EXPECT_EQ(best_fit(choices, 1e9, 6e9)->name, "int8");
  EXPECT_EQ(best_fit(choices, 1e9, 4.2e9)->name, "nf4");
  EXPECT_EQ(best_fit(choices, 1e9, 2e9), nullptr);
  constexpr double kGiB = 1 << 30;
  EXPECT_EQ(say_what_fits(choices, kGiB, 10 * kGiB), "bfloat16 fits: 8.49 GiB of 10.0 GiB");
  const std::string text = say_what_fits(choices, kGiB, 4.2 * kGiB);
  EXPECT_TRUE(text.starts_with("nf4 fits: ") &&
              text.find("; bfloat16 needs 8.49 GiB; int8 needs ") != text.npos)
      << text;
  EXPECT_TRUE(
      say_what_fits(choices, kGiB, 2 * kGiB).starts_with("nothing fits 2.00 GiB; bfloat16 needs"));
}

}  // namespace
}  // namespace kvlingua
