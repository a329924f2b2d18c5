#include "kvlingua/preflight/plan.h"

#include <gtest/gtest.h>

namespace kvlingua {
namespace {

ModelNumbers qwen3_06b() {
  return {.layers = 28,
          .hidden = 1024,
          .heads = 16,
          .kv_heads = 8,
          .head_dim = 128,
          .intermediate = 3072,
          .vocab = 151936,
          .parameters = 596049920,
          .head_parameters = 151936 * 1024,
          .max_positions = 40960,
          .compute_bytes = 2};
}
ModelNumbers qwen25_05b() {
  return {.layers = 24,
          .hidden = 896,
          .heads = 14,
          .kv_heads = 2,
          .head_dim = 64,
          .intermediate = 4864,
          .vocab = 151936,
          .parameters = 494032768,
          .head_parameters = 151936 * 896,
          .max_positions = 32768,
          .compute_bytes = 2};
}
Recipe recipe_of(const std::vector<std::string>& overrides = {}) {
  return Recipe::from_yaml(
      "pair: {source: {name: a}, target: {name: b}}\ndata: {storage_dtype: bfloat16}\n", "r.yaml",
      overrides);
}
MachineNumbers card(double gib) {
  return {.cuda = true,
          .memory = gib * (1 << 30),
          .base_memory = 8e8,
          .flops = 2e14,
          .flops_float32 = 5e13,
          .bandwidth = 2e12,
          .disk_free = 1e12};
}
Plan plan_of(const Recipe& recipe, const CorpusNumbers& corpus, const MachineNumbers& machine) {
  return make_plan({recipe, qwen3_06b(), qwen25_05b(), corpus, machine});
}
constexpr CorpusNumbers kCorpus{.samples = 2000, .tokens_per_sample = 60};

TEST(Plan, FirstPairStores127KilobytesAToken) {
  const Plan plan = plan_of(recipe_of(), kCorpus, card(24));
  EXPECT_EQ(plan.bytes_per_token, 126976);
  EXPECT_EQ(plan.dataset_tokens, 120000);
  EXPECT_EQ(plan.dataset_bytes, 120000.0 * 126976);
  EXPECT_EQ(plan_of(recipe_of({"data.tokens_per_sample=16"}), kCorpus, card(24)).dataset_tokens,
            32000);
  // int8: a byte an element and two float32 scales a head and token.
  EXPECT_EQ(plan_of(recipe_of({"data.storage_dtype=int8"}), kCorpus, card(24)).bytes_per_token,
            63488 + 8 * (28 * 8 + 24 * 2));
}

TEST(Plan, RidgeMemoryGrowsWithTheSquareOfCandidatesAndNotWithTokens) {
  const auto ridge = [](const std::vector<std::string>& overrides, int64_t samples) {
    return plan_of(recipe_of(overrides), {samples, 60}, card(80)).stages.at(1);
  };
  EXPECT_EQ(ridge({}, 100).name, "ridge");
  EXPECT_EQ(ridge({}, 100).memory, ridge({}, 100000).memory);
  EXPECT_GT(ridge({}, 100).memory, 2 * 8.0 * 28672 * 28672);
  EXPECT_LT(ridge({"projector.ridge.candidate_layers=7"}, 100).memory,
            0.15 * ridge({}, 100).memory);
}

TEST(Plan, LargestBatchIsTheLastThatFits) {
  const Recipe recipe = recipe_of({"projector.ridge.candidate_layers=14", "projector.mlp.rank=128",
                                   "projector.mlp.hidden=512"});
  const Plan plan = plan_of(recipe, kCorpus, card(16));
  for (const StagePlan& stage : plan.stages) {
    if (stage.batch_key.empty()) continue;
    ASSERT_GT(stage.largest_batch, 0) << stage.name;
    for (const int64_t extra : {0, 1}) {
      const Recipe changed = recipe_of({"projector.ridge.candidate_layers=14",
                                        "projector.mlp.rank=128", "projector.mlp.hidden=512",
                                        cat(stage.batch_key, "=", stage.largest_batch + extra)});
      for (const StagePlan& again : plan_of(changed, kCorpus, card(16)).stages) {
        if (again.name != stage.name) continue;
        EXPECT_EQ(again.fits, extra == 0) << stage.name;
      }
    }
  }
}

TEST(Plan, SmallCardsAndDisksAreSeen) {
  const Plan small = plan_of(recipe_of(), kCorpus, card(2));
  EXPECT_FALSE(small.fits_memory);
  MachineNumbers machine = card(80);
  machine.disk_free = 1e9;
  EXPECT_FALSE(plan_of(recipe_of(), kCorpus, machine).fits_disk);
  // One model at a time needs less than both.
  const auto generate = [](const char* sequential) {
    return plan_of(recipe_of({sequential}), kCorpus, card(24)).stages.at(0).memory;
  };
  EXPECT_DOUBLE_EQ(generate("data.sequential=false") - generate("data.sequential=true"),
                   494032768.0 * 2);
}

TEST(Plan, StagesFollowTheRecipe) {
  std::vector<std::string> names;
  for (const StagePlan& stage :
       plan_of(recipe_of({"train.stages=[ridge, distillation]"}), kCorpus, card(80)).stages) {
    names.push_back(stage.name);
    EXPECT_GT(stage.seconds, 0) << stage.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"generate", "ridge", "distillation", "evaluate"}));
}

}  // namespace
}  // namespace kvlingua
