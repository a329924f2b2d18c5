// The table of stages: what others read from its rows.
#include "kvlingua/config/stages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "kvlingua/config/recipe.h"

namespace kvlingua {
namespace {

TEST(Stages, NamesAreThoseOfTheRecipeAndOfItsSections) {
  // Further rows need nothing here.
  EXPECT_THAT(stage_names(), testing::IsSupersetOf({"ridge", "regression", "distillation", "c2c"}));
  EXPECT_THAT(stage_conditions(), testing::IsSupersetOf({"ridge", "mlp", "distilled", "fused"}));
  const std::vector<std::string_view> conditions = stage_conditions();
  const std::set<std::string_view> different(conditions.begin(), conditions.end());
  EXPECT_EQ(different.size(), conditions.size());
  EXPECT_EQ(find_stage("distillation")->condition, std::string("distilled"));
  EXPECT_EQ(find_stage("mlp"), nullptr);
  const std::string yaml = "pair: {source: {name: a}, target: {name: b}}\ntrain: {stages: [";
  for (const std::string_view name : stage_names())
    EXPECT_NO_THROW(Recipe::from_yaml(yaml + std::string(name) + "]}\nprojector: {kind: " +
                                          (name == kC2cStage ? "c2c" : "mlp") + "}\n",
                                      "r.yaml"));
  EXPECT_THROW(Recipe::from_yaml(yaml + "rigde]}\n", "r.yaml"), Error);
}

TEST(Stages, SayWhatTheyMinimiseUnderTheseOptions) {
  TrainOptions options;
  options.distillation.anchor = 0.5;
  options.regression.value_weight = 2;
  EXPECT_EQ(
      find_stage(kDistillationStage)->losses(options),
      "KL from full_text x 1, cross-entropy on the gold answer x 0, regression on pairs x 0.5");
  EXPECT_EQ(find_stage(kRegressionStage)->losses(options),
            "error on pairs: keys x 1, values x 2, attention outputs x 0");
  EXPECT_EQ(find_stage(kRidgeStage)->losses(options), "least squares on pairs, closed form");
}

TEST(Stages, SectionsOfTheRecipeThatDecideWhatComesOut) {
  EXPECT_THAT(
      find_stage(kRidgeStage)->sections("mlp"),
      testing::UnorderedElementsAre("projector.ridge", "train.ridge", "train.shuffle_pairs"));
  EXPECT_THAT(
      find_stage(kRegressionStage)->sections("mlp"),
      testing::UnorderedElementsAre("projector.kind", "projector.dtype", "projector.mlp",
                                    "projector.ridge", "train.regression", "train.shuffle_pairs"));
  EXPECT_THAT(find_stage(kDistillationStage)->sections("lcf"),
              testing::IsSupersetOf({"projector.lcf", "train.distillation", "pair.alignment",
                                     "pair.source.system", "pair.target.dtype"}));
}

}  // namespace
}  // namespace kvlingua
