#include "kvlingua/config/c2c_recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/config/recipe.h"

namespace kvlingua {
namespace {

constexpr const char* kPublished = R"({
  "model": {"base_model": "Qwen/Qwen3-0.6B", "teacher_model": "Qwen/Qwen2.5-0.5B-Instruct", "is_do_alignment": false,
            "projector": {"type": "C2CProjector", "params": {"hidden_dim": 1024, "intermediate_dim": 1024, "num_layers": 3,
                          "dropout": 0.1, "initial_temperature": 1.0, "final_temperature": 0.001, "anneal_steps": 1929}},
            "mapping": "last_aligned"},
  "training": {"learning_rate": 1e-4, "weight_decay": 0.01, "num_epochs": 1, "max_length": 2048, "device": "cuda",
               "scheduler_type": "linear", "warmup_ratio": 0.1, "max_grad_norm": 1.0, "gradient_accumulation_steps": 8,
               "per_device_train_batch_size": 4, "num_processes": 8, "freeze": ["teacher", "base"], "seed": 42},
  "output": {"output_dir": "local/checkpoints/0.6+0.5B_C2C", "save_steps": 500, "eval_steps": 100,
             "wandb_config": {"project": "p", "mode": "offline", "entity": "e", "run_name": "r"}},
  "data": {"type": "OpenHermesChatDataset", "kwargs": {"split": "train", "max_word_count": 2048, "num_samples": 500000},
           "train_ratio": 0.99}
})";

TEST(C2cRecipe, TranslatesThePublishedRecipe) {
  const Recipe r = Recipe::from_yaml(kPublished, "c2c.json");
  EXPECT_THAT(r.data.files, testing::ElementsAre("openhermes2_5.json"));
  EXPECT_EQ(r.pair.target.name, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(r.pair.source.name, "Qwen/Qwen2.5-0.5B-Instruct");
  EXPECT_EQ(r.pair.alignment, "identity");
  EXPECT_EQ(r.projector.kind, "c2c");
  EXPECT_EQ(r.projector.c2c.anneal_steps, 1929);
  EXPECT_EQ(r.train.c2c.batch.size * r.train.c2c.batch.accumulation, 32);
  EXPECT_EQ(r.train.c2c.optimizer.schedule, "linear");
  EXPECT_EQ(r.train.seed, 42);
  EXPECT_EQ(r.checkpoint.every, 500);
  EXPECT_EQ(r.run_name(), "0.6+0.5B_C2C");
  EXPECT_EQ(r.data.kind, "sharegpt");
  EXPECT_EQ(r.data.max_samples, 500000);
  EXPECT_THAT(r.train.stages, testing::ElementsAre("c2c"));
  EXPECT_EQ(r.eval.gated, "fused");
  EXPECT_THAT(r.eval.conditions, testing::Contains("fused"));
}

TEST(C2cRecipe, SaysWhichKeysHaveNoEffect) {
  const Recipe r = Recipe::from_yaml(kPublished, "c2c.json", {"data.files=[hermes.json]"});
  std::string notes;
  for (const std::string& note : r.notes) notes += note + "\n";
  EXPECT_THAT(notes, testing::HasSubstr("c2c.json:8:50: training.num_processes has no effect: "));
  EXPECT_THAT(notes, testing::HasSubstr("training.freeze has no effect"));
  EXPECT_THAT(notes, testing::HasSubstr("output.wandb_config has no effect"));
  EXPECT_THAT(notes, testing::Not(testing::HasSubstr("include_response")));
}

std::string with_projector(const std::string& projector) {
  std::string yaml = kPublished;
  const size_t begin = yaml.find("{\"type\": \"C2CProjector\""), end = yaml.find("}}", begin) + 2;
  return yaml.replace(begin, end - begin, projector);
}

TEST(C2cRecipe, TheOlderClassWithItsOwnDefaults) {
  const Recipe r = Recipe::from_yaml(
      with_projector(
          R"({"type": "AllInOneProjector", "params": {"num_layers": 3, "use_swiglu": true,
        "gate_granularity": "scalar", "gate_init_value": 0.0, "weight_granularity": "head_merged",
        "weight_depends_on_input": true, "weight_input_features": "target_projected_key",
        "use_gumbel": false, "preserve_target_weight": false, "max_sequence_length": 8192}})"),
      "c2c.json");
  const C2cOptions& c2c = r.projector.c2c;
  EXPECT_EQ(c2c.type, "AllInOneProjector");
  EXPECT_EQ(c2c.hidden_dim, 512);
  EXPECT_EQ(c2c.num_layers, 3);
  EXPECT_EQ(c2c.anneal_steps, 1360);
  EXPECT_EQ(c2c.final_temperature, 0.01);
  EXPECT_TRUE(c2c.all_in_one.swiglu);
  EXPECT_TRUE(c2c.all_in_one.weight_depends_on_input);
  EXPECT_EQ(c2c.all_in_one.weight_input, "target_projected_key");
  EXPECT_FALSE(c2c.all_in_one.gumbel);
  EXPECT_FALSE(c2c.all_in_one.preserve_target_weight);
}

TEST(C2cRecipe, IncludeResponse) {
  std::string yaml = kPublished;
  yaml.replace(yaml.find("\"is_do_alignment\""), 0, "\"include_response\": true, ");
  const Recipe r = Recipe::from_yaml(yaml, "c2c.json");
  EXPECT_TRUE(r.train.c2c.include_response);
  EXPECT_THAT(r.notes, testing::Contains(testing::HasSubstr("include_response trains with")));
}

TEST(C2cRecipe, EachClassTakesItsOwnParameters) {
  const auto refused = [](const std::string& projector) -> std::string {
    try {
      Recipe::from_yaml(with_projector(projector), "c2c.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "taken";
  };
  EXPECT_THAT(refused(R"({"type": "C2CProjector", "params": {"use_concat": true}})"),
              testing::HasSubstr("use_concat: C2CProjector has no such parameter"));
  EXPECT_THAT(refused(R"({"type": "AllInOneProjector", "params": {"intermediate_dim": 8}})"),
              testing::HasSubstr("intermediate_dim: AllInOneProjector has no such parameter"));
  EXPECT_THAT(
      refused(R"({"type": "AllInOneProjector", "params": {"gate_depends_on_input": true}})"),
      testing::HasSubstr("not supported"));
  EXPECT_THAT(
      refused(R"({"type": "AllInOneProjector", "params": {"weight_granularity": "head_merged"}})"),
      testing::HasSubstr("weight_granularity"));
  EXPECT_THAT(refused(R"({"type": "C2CProjector", "params": {"num_layers": 2}})"),
              testing::HasSubstr("at least 3"));
}

TEST(C2cRecipe, NamesUnknownKeysInItsOwnWords) {
  std::string yaml = kPublished;
  yaml.replace(yaml.find("learning_rate"), 13, "leaning_rate\x20");
  try {
    Recipe::from_yaml(yaml, "c2c.json", {"data.files=[x]"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(
        error.what(),
        testing::HasSubstr(
            "c2c.json:6:16: unknown key leaning_rate  in training; did you mean learning_rate?"));
  }
}

TEST(C2cRecipe, ABaselineIsNotAProjector) {
  try {
    Recipe::from_yaml(
        R"({"model": {"baseline_model": "Qwen/Qwen3-0.6B"}, "training": {"lora": {}}})",
        "c2c.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("c2c.json:1:30: model.baseline_model: "));
    EXPECT_THAT(error.what(), testing::HasSubstr("without a projector"));
  }
}

TEST(C2cRecipe, NullKeepsTheDefault) {
  std::string yaml = kPublished;
  yaml.replace(yaml.find("500000"), 6, "null");
  EXPECT_EQ(Recipe::from_yaml(yaml, "c2c.json").data.max_samples, 0);
}

TEST(C2cRecipe, AnOrdinaryRecipeIsNotOne) {
  EXPECT_FALSE(is_c2c_recipe("pair: {}\n"));
  EXPECT_FALSE(is_c2c_recipe("model: ["));
  EXPECT_TRUE(is_c2c_recipe("model: {}\ntraining: {}\n"));
}

}  // namespace
}  // namespace kvlingua
