// What a small run took, scaled to the whole recipe.
#include "kvlingua/preflight/small_recipe.h"

#include <gtest/gtest.h>

#include "eval/evaluation_cost.h"
#include "kvlingua/model/published_config.h"
#include "trainers/stages.h"

namespace kvlingua {
namespace {

ModelNumbers model(int64_t layers, int64_t heads) {
  return {.layers = layers,
          .hidden = 64,
          .heads = 4,
          .kv_heads = heads,
          .head_dim = 16,
          .intermediate = 128,
          .vocab = 512,
          .parameters = 400000,
          .head_parameters = 512 * 64,
          .max_positions = 512};
}
const ModelNumbers kSource = model(5, 2), kTarget = model(4, 1);
constexpr CorpusNumbers kCorpus{.samples = 2000, .tokens_per_sample = 28};

Recipe recipe_of(const std::vector<std::string>& overrides = {}) {
  return Recipe::from_yaml(
      "pair: {source: {name: a}, target: {name: b}}\n"
      "train: {regression: {batch: {size: 512, epochs: 3}, validate_every: 100}}\n"
      "checkpoint: {every: 100}\n"
      "eval: {items: 200, batch_size: 32, shifts: [1, 40], families: [identity, needle],"
      " conditions: [full_text, raw, raw_shifted, ridge, mlp]}\n",
      "r.yaml", overrides);
}

PlanInputs inputs(const Recipe& recipe, const MachineNumbers& machine = {},
                  const CorpusNumbers& corpus = kCorpus) {
  return {recipe, kSource, kTarget, corpus, machine};
}
std::map<std::string, PhaseUnits> units_of(const Recipe& recipe) {
  return planned_units(inputs(recipe));
}

TEST(PlannedUnits, StepsValidationsAndCheckpointsAsTheTrainerTakesThem) {
  const auto units = units_of(recipe_of());
  // 53200 training rows in batches of 512, 103 whole ones an epoch.
  EXPECT_EQ(units.at("regression").at("steps"), 309);
  EXPECT_EQ(units.at("regression").at("save"), 4);  // after 100, 200 and 300, and at the end
  EXPECT_EQ(units.at("regression").at("validate"), 4 * 2800);
  EXPECT_EQ(units.at("ridge").at("gather"), 53200);
  EXPECT_EQ(units.at("ridge").at("held_out"), 20000 + 2800);
  EXPECT_FALSE(units.at("regression").contains("held_out")) << "ridge has read it";
}

TEST(PlannedUnits, EveryConditionThatWillBeAnswered) {
  const auto units = units_of(recipe_of()).at("evaluate");
  for (const char* name : {"baseline", "full_text", "raw", "raw_text", "raw_shifted",
                           "raw_shifted_1", "ridge", "mlp"}) {
    EXPECT_EQ(units.at(std::string("read ") + name), 2 * 2 * 200 + 5) << name;
    EXPECT_EQ(units.at(std::string("decode ") + name), 2 * 2 * 200 + 5) << name;
  }
  EXPECT_EQ(units.at("judge"), 8 * 805);
}

TEST(Rehearsal, PhasesScaleByTheirUnitsAndWhatHappensOnceStays) {
  const MeasuredStage small{
      .name = "regression",
      .phases = {{"steps", {10, 2}}, {"validate", {50, 1}}, {"other", {1, 0.5}}, {"save", {0, 0}}}};
  EXPECT_DOUBLE_EQ(scaled_seconds(small, {{"steps", 100}, {"validate", 200}, {"save", 3}}, {}),
                   20 + 4 + 0.5);
}

TEST(Rehearsal, ConditionsThatWereLeftOutTakeTheMostSimilarOnesTime) {
  const MeasuredStage small{.name = "evaluate",
                            .phases = {{"read full_text", {10, 10}},
                                       {"read same_cache", {10, 1}},
                                       {"read mlp", {10, 2}},
                                       {"decode full_text", {1, 3}},
                                       {"decode mlp", {1, 9}},
                                       {"decode same_cache", {1, 4}}}};
  const auto of = [&](const char* phase) {
    return scaled_seconds(small, {{phase, 10}}, evaluate_cost());
  };
  EXPECT_DOUBLE_EQ(of("read full_text"), 10);
  EXPECT_DOUBLE_EQ(of("read wrong_text"), 10);
  EXPECT_DOUBLE_EQ(of("read raw_shifted"), 1);
  EXPECT_DOUBLE_EQ(of("read distilled"), 2);
  // An untrained projector rambles; a trained one answers as full_text does.
  EXPECT_DOUBLE_EQ(of("decode mlp"), 30);
  EXPECT_DOUBLE_EQ(of("decode shuffled"), 40);
}

TEST(Rehearsal, CutRecipesKeepShapesAndStayValid) {
  const Recipe whole = recipe_of({"projector.ridge.source_layers=2"});
  const MachineNumbers machine;
  const SmallRecipe small = cut_small(inputs(whole, machine));
  EXPECT_EQ(small.rows_of_whole, 53200);
  EXPECT_LT(small.recipe.data.max_samples, 400);
  // One batch of regression at least can be filled from what is left for training.
  EXPECT_GT(static_cast<double>(small.recipe.data.max_samples) * 28 * 0.95, 512);
  EXPECT_EQ(small.recipe.train.regression.batch.size, 512);
  EXPECT_LE(small.recipe.train.regression.batch.steps, 16);
  EXPECT_EQ(inputs(small.recipe).projector_parameters(), inputs(whole).projector_parameters());
  EXPECT_EQ(small.recipe.eval.max_new_tokens, whole.eval.max_new_tokens);
  EXPECT_NO_THROW(Recipe::from_yaml(small.recipe.to_yaml(), "small.yaml"));
}

// A small run of few steps and no validations, whatever the whole one asks of them.
TEST(Rehearsal, LongWarmUpsAndPatienceAreCutWithTheSteps) {
  const Recipe whole =
      recipe_of({"train.regression.optimizer.warmup_steps=200", "train.regression.batch.steps=1000",
                 "train.regression.validate_every=50", "train.regression.patience=3",
                 "train.distillation.optimizer.warmup_steps=100",
                 "train.distillation.batch.steps=500", "train.distillation.patience=2"});
  const SmallRecipe small = cut_small(inputs(whole, MachineNumbers{}));
  EXPECT_LT(small.recipe.train.regression.batch.steps, 200);
  EXPECT_NO_THROW(Recipe::from_yaml(small.recipe.to_yaml(), "small.yaml"));
}

TEST(Rehearsal, MemoryIsTheMeasuredPeakAndWhatTheSizeAdds) {
  const Recipe whole = recipe_of();
  const MachineNumbers machine{.memory = 4e9, .base_memory = 1e8};
  const SmallRecipe small = cut_small(inputs(whole, machine));
  Plan plan = make_plan(inputs(whole, machine));
  CorpusNumbers few = kCorpus;
  few.samples = small.recipe.data.max_samples;
  const Plan cut = make_plan(inputs(small.recipe, machine, few));
  const double computed = plan.stages[2].memory, of_small = cut.stages[2].memory;
  ASSERT_EQ(plan.stages[2].name, "regression");
  adopt(plan, inputs(whole, machine), inputs(small.recipe, machine, few),
        {{.name = "regression", .memory = 7e8, .phases = {{"steps", {10, 2}}}}});
  EXPECT_DOUBLE_EQ(plan.stages[2].memory, 7e8 + computed - of_small);
  EXPECT_DOUBLE_EQ(plan.stages[2].seconds, 309 * 0.2);
  EXPECT_FALSE(plan.stages[2].rehearsed.empty());
  EXPECT_TRUE(plan.stages[0].rehearsed.empty());
  // The largest batch follows from the measured memory.
  const StagePlan& stage = plan.stages[2];
  const double at_largest = stage.memory + static_cast<double>(stage.largest_batch - stage.batch) *
                                               stage.memory_per_batch;
  EXPECT_LE(at_largest, machine.memory);
  EXPECT_GT(at_largest + stage.memory_per_batch, machine.memory);
}

// ---- a real pair on a processor ----

PlanInputs real_pair(const Recipe& recipe, int64_t samples) {
  const auto numbers = [](const char* name, const ModelOptions& options) {
    return numbers_of(published_config(name), options, 4);
  };
  return {recipe,
          numbers("HuggingFaceTB/SmolLM2-135M-Instruct", recipe.pair.source),
          numbers("Qwen/Qwen2.5-Coder-0.5B-Instruct", recipe.pair.target),
          {.samples = samples, .tokens_per_sample = 62},
          {.memory = 64e9, .flops = 1e11, .flops_float32 = 1e11}};
}
Recipe real_recipe() {
  return Recipe::from_yaml(
      "pair: {source: {name: a}, target: {name: b}}\n"
      "projector: {kind: mlp, ridge: {source_layers: 0, features: both, previous_tokens: 4,"
      " change_rank: 128}, mlp: {hidden: 512, depth: 1, rank: 128}}\n"
      "train: {regression: {batch: {size: 2048}}, distillation: {batch: {size: 32, steps: 800}}}\n"
      "eval: {items: 200, batch_size: 64}\n",
      "r.yaml");
}

TEST(Rehearsal, ARealPairIsCutToTwoMinutes) {
  const Recipe whole = real_recipe();
  const SmallRecipe small = cut_small(real_pair(whole, 8000));
  double seconds = 0, hours = 0;
  for (const StagePlan& stage :
       make_plan(real_pair(small.recipe, small.recipe.data.max_samples)).stages)
    if (stage.name != "sweep" && stage.name != "identity") seconds += stage.seconds;
  for (const StagePlan& stage : make_plan(real_pair(whole, 8000)).stages)
    hours += stage.seconds / 3600;
  EXPECT_GT(hours, 10);
  EXPECT_LT(seconds, 120);
  EXPECT_LT(small.recipe.train.regression.batch.size, 2048);
  EXPECT_GE(small.recipe.train.regression.batch.size, 128);
  EXPECT_LT(small.recipe.train.distillation.batch.size, 32);
  EXPECT_LT(small.recipe.projector.ridge.candidate_layers, 30);
  EXPECT_GT(small.recipe.projector.ridge.candidate_layers, 0);
  EXPECT_EQ(small.recipe.eval.items, 4);
  EXPECT_FALSE(small.recipe.eval.latency);
  // It is a recipe still, and what was done is said.
  EXPECT_NO_THROW(Recipe::from_yaml(small.recipe.to_yaml(), "small.yaml"));
  const std::string how =
      say_cut(real_pair(whole, 8000), real_pair(small.recipe, small.recipe.data.max_samples));
  for (const char* part : {" of 8000 documents", "ridge of ", " of 2048 rows a batch",
                           " of 32 contexts a batch", "4 of 200 items", "latency by"})
    EXPECT_NE(how.find(part), std::string::npos) << part << " in " << how;
}

// A step of 128 rows stands for one of 2,048, which computes sixteen times as much.
TEST(Rehearsal, SmallStepsAreScaledByWhatTheyCompute) {
  const Recipe whole = real_recipe();
  SmallRecipe small{.recipe = whole};
  small.recipe.train.regression.batch.size = 128;
  MeasuredStage measured{.name = "regression", .phases = {{"steps", {2, 3}}, {"save", {1, 5}}}};
  cost_of("regression").correct(measured, real_pair(whole, 8000), real_pair(small.recipe, 20));
  EXPECT_LT(measured.phases.at("steps").seconds, 16 * 3);
  EXPECT_GT(measured.phases.at("steps").seconds, 9 * 3);  // the optimizer's pass is the same
  EXPECT_EQ(measured.phases.at("save").seconds, 5);
}

// Few answers that decode together take longer each.
TEST(Rehearsal, FewAnswersStandForManyThatDecodeTogether) {
  const Recipe whole = real_recipe();
  Recipe small = whole;
  small.eval.items = small.eval.batch_size = 4;
  MeasuredStage measured{
      .name = "evaluate",
      .phases = {{"decode full_text", {4, 1}}, {"read full_text", {4, 1}}, {"judge", {4, 1}}}};
  EXPECT_EQ(evaluate_cost().correct(measured, real_pair(whole, 8000), real_pair(small, 20)), 0);
  EXPECT_LT(measured.phases.at("decode full_text").seconds, 0.5);
  EXPECT_EQ(measured.phases.at("read full_text").seconds, 1);
  small.eval.latency = false;  // then it is computed
  EXPECT_GT(evaluate_cost().correct(measured, real_pair(whole, 8000), real_pair(small, 20)), 10);
}

// Cells of a grid are runs of the recipe's own stages, and models read at the pace they showed.
TEST(Rehearsal, SweepAndIdentityFollowWhatWasMeasured) {
  const Recipe whole = recipe_of({"sweep.pairs=[a -> b]"});
  const MachineNumbers machine{.memory = 4e9};
  const SmallRecipe small = cut_small(inputs(whole, machine));
  const auto planned = [&](double seconds) {
    Plan plan = make_plan(inputs(whole, machine));
    adopt(plan, inputs(whole, machine), inputs(small.recipe, machine),
          {{.name = "generate", .phases = {{"pairs", {1, seconds / 1e4}}}},
           {.name = "evaluate", .phases = {{"decode full_text", {1, seconds}}}}});
    return std::pair(plan.stages.at(5).seconds, plan.stages.at(6).seconds);
  };
  const auto [sweep, identity] = planned(1);
  const auto [slow_sweep, slow_identity] = planned(3);
  EXPECT_NEAR(slow_sweep / sweep, 3, 0.6);
  EXPECT_GT(slow_identity, 1.5 * identity);
  EXPECT_GT(sweep, make_plan(inputs(whole, machine)).stages.at(5).seconds);
}

}  // namespace
}  // namespace kvlingua
