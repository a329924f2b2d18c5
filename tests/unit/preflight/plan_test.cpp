#include "kvlingua/preflight/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/model/published_config.h"
#include "kvlingua/preflight/card.h"
#include "kvlingua/preflight/fit.h"

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
  EXPECT_EQ(names, (std::vector<std::string>{"generate", "ridge", "distillation", "evaluate",
                                             "sweep", "identity"}));
}

// ---- sweep and identity ----

TEST(Plan, SweepAndIdentityAreStagesToo) {
  const auto stage = [](const std::vector<std::string>& overrides, const char* name) {
    const Plan plan = plan_of(recipe_of(overrides), kCorpus, card(24));
    return *std::ranges::find(plan.stages, name, &StagePlan::name);
  };
  const StagePlan sweep = stage({}, "sweep"), identity = stage({}, "identity");
  EXPECT_GT(sweep.memory, 596049920 * 2.0);  // one model at a time
  EXPECT_LT(sweep.memory, 596049920 * 2.0 + 3e9);
  EXPECT_GT(identity.memory, (596049920 + 494032768) * 2.0);  // both, for the transfer
  EXPECT_LT(stage({"identity.transfer=false"}, "identity").memory, identity.memory);
  // Twice as many tokens to write, one prompt of fifteen, fewer permutations.
  EXPECT_GT(stage({"sweep.new_tokens=60"}, "sweep").seconds, 1.25 * sweep.seconds);
  EXPECT_LT(stage({"sweep.prompts_per_category=1"}, "sweep").seconds, 0.6 * sweep.seconds);
  EXPECT_LT(stage({"identity.permutations=99"}, "identity").seconds, identity.seconds);
  // A third model is read too, and a larger one needs more.
  const StagePlan three = stage({"sweep.models=[a, b, Qwen/Qwen2.5-3B-Instruct]"}, "sweep");
  EXPECT_GT(three.memory, 3085938688 * 2.0);
  EXPECT_GT(three.seconds, sweep.seconds);
  EXPECT_LT(stage({"sweep.models=[7B-q4]"}, "sweep").memory, 8e9);  // in four bits
  // Cells of a grid are whole runs.
  EXPECT_GT(stage({"sweep.sources=[a]", "sweep.targets=[b]"}, "sweep").seconds, 2 * sweep.seconds);
  // Where it does not fit, smaller batches do.
  const Plan small = plan_of(recipe_of({"sweep.batch_size=4096"}), kCorpus, card(6));
  const auto swept = std::ranges::find(small.stages, "sweep", &StagePlan::name);
  EXPECT_FALSE(swept->fits);
  EXPECT_GT(swept->largest_batch, 0);
  EXPECT_LT(swept->largest_batch, 4096);
}

// checkpoint_activations auto: only where it would not fit otherwise.
TEST(Plan, RecomputesLayersWhereMemoryIsShort) {
  const std::vector<std::string> fusing = {"projector.kind=c2c", "projector.c2c.mode=fuse",
                                           "train.stages=[c2c]", "train.c2c.max_length=512"};
  for (const std::string& name : {std::string("distillation"), std::string("c2c")}) {
    const auto stage = [&](const std::string& how, double gib) {
      std::vector<std::string> set{cat("train.", name, ".checkpoint_activations=", how)};
      if (name == "c2c") set.insert(set.end(), fusing.begin(), fusing.end());
      const Plan plan = plan_of(recipe_of(set), kCorpus, card(gib));
      return *std::ranges::find(plan.stages, name, &StagePlan::name);
    };
    const StagePlan kept = stage("false", 80), recomputed = stage("true", 80);
    EXPECT_LT(recomputed.memory, kept.memory) << name;
    EXPECT_GT(recomputed.products, kept.products) << name;
    EXPECT_EQ(stage("auto", 80).memory, kept.memory) << name;
    EXPECT_FALSE(stage("auto", 80).recomputed) << name;
    const double between = (recomputed.memory + kept.memory) / 2 / (1 << 30);
    EXPECT_FALSE(stage("false", between).fits) << name;
    EXPECT_TRUE(stage("auto", between).recomputed) << name;
    EXPECT_EQ(stage("auto", between).memory, recomputed.memory) << name;
    EXPECT_TRUE(stage("auto", between).fits) << name;
  }
}

// ---- weights as they are held, and what to change so that a recipe fits ----

PlanInputs roadmap(const Recipe& recipe, const std::string& source, const std::string& target,
                   const MachineNumbers& machine) {
  return {recipe, numbers_of(published_config(source), recipe.pair.source, 2),
          numbers_of(published_config(target), recipe.pair.target, 2), kCorpus, machine};
}

TEST(Plan, CountsWeightsAsTheyAreHeld) {
  const auto weights = [](const std::vector<std::string>& overrides) {
    const Recipe recipe = recipe_of(overrides);
    return resident_weights(roadmap(recipe, "Qwen/Qwen3-32B", "Qwen/Qwen2.5-7B-Instruct", card(80)),
                            false);
  };
  const double dense = weights({}), nf4 = weights({"pair.source.weights=nf4"});
  EXPECT_NEAR(dense, 2 * (32762123264.0 + 7615616512.0), 1e6);
  // 31.2e9 weights of the source's layers in 4.13 bits and not in 16; the rest as it was.
  EXPECT_NEAR(dense - nf4, 31.2e9 * (16 - 4.127) / 8, 1e9);
  EXPECT_LT(weights({"pair.source.weights=nf4", "pair.target.weights=nf4"}), nf4 - 9e9);
  // Two of 64 layers, embedding and head.
  EXPECT_LT(weights({"pair.source.weights=nf4", "pair.source.layer_streaming=true"}), 21e9);
}

TEST(Fit, TriesWhatCostsLeastFirst) {
  const std::vector<std::string> small = {"projector.ridge.candidate_layers=4",
                                          "projector.mlp.rank=64", "projector.mlp.hidden=256"};
  const auto fit_on = [&](double gib) {
    static MachineNumbers machine;
    machine = card(gib);
    return find_fit(recipe_of(small), [](const Recipe& changed) {
      return roadmap(changed, "Qwen/Qwen3-4B", "Qwen/Qwen2.5-3B-Instruct", machine);
    });
  };
  const auto keys = [](const std::optional<Fit>& fit) {
    std::string all;
    for (const std::string& one : fit->set) all += one + " ";
    return all;
  };
  ASSERT_TRUE(fit_on(80));
  EXPECT_EQ(keys(fit_on(80)), "");
  EXPECT_EQ(keys(fit_on(18)), "eval.batch_size=16 ") << "layers are recomputed by themselves";
  ASSERT_TRUE(fit_on(17));
  EXPECT_THAT(keys(fit_on(17)), ::testing::HasSubstr(".batch.size="));
  EXPECT_THAT(keys(fit_on(17)), ::testing::HasSubstr(".batch.accumulation="));
  EXPECT_THAT(keys(fit_on(17)), ::testing::Not(::testing::HasSubstr("weights")));
  ASSERT_TRUE(fit_on(12));
  EXPECT_THAT(keys(fit_on(12)), ::testing::HasSubstr("pair.source.weights="));
  EXPECT_LE(fit_on(12)->memory, 12.0 * (1 << 30));
  EXPECT_FALSE(fit_on(1));
}

TEST(Fit, SaysWhatEachWayToHoldWeightsNeeds) {
  static const MachineNumbers machine = card(12);
  const Recipe recipe = recipe_of();
  const InputsOf inputs = [](const Recipe& changed) {
    return roadmap(changed, "Qwen/Qwen3-4B", "Qwen/Qwen2.5-3B-Instruct", machine);
  };
  const Plan plan = make_plan(inputs(recipe));
  EXPECT_THAT(
      say_weights(recipe, inputs, plan.stages.front()),
      ::testing::MatchesRegex("weights: (int8|nf4) fits: .* GiB of 12.0 GiB; dense needs .*"));
  EXPECT_EQ(say_weights(recipe, inputs, plan.stages.at(1)), "");  // ridge holds no model
}

TEST(Card, IsFoundByNameOrSize) {
  EXPECT_EQ(find_card("gtx1660").memory, 6.0 * (1 << 30));
  EXPECT_FALSE(find_card("GTX1660").bfloat16);
  EXPECT_EQ(find_card("24GB").memory, find_card("rtx3090").memory);
  EXPECT_EQ(find_card("24").bandwidth, find_card("rtx3090").bandwidth);
  EXPECT_EQ(find_card("5.5 GiB").name, "a card with 5.5 GB");
  EXPECT_EQ(machine_of(find_card("40GB")).disk_free, -1);
  EXPECT_LT(machine_of(find_card("6GB")).memory, 6.0 * (1 << 30));
  for (const char* wrong : {"", "gtx", "rtx3091", "0GB", "-4", "24TB"})
    EXPECT_THROW(find_card(wrong), Error) << wrong;
  try {
    find_card("rtx3091");
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("did you mean rtx3090?"));
  }
}

}  // namespace
}  // namespace kvlingua
