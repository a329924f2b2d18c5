#include "kvlingua/preflight/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kvlingua/model/published_config.h"

namespace kvlingua {
namespace {

TEST(Preflight, PublishedShapesGiveThePublishedParameterCounts) {
  const std::pair<const char*, int64_t> counts[] = {
      {"Qwen/Qwen3-0.6B", 596049920},
      {"Qwen/Qwen3-4B", 4022468096},
      {"Qwen/Qwen3-32B", 32762123264},
      {"Qwen/Qwen2.5-0.5B-Instruct", 494032768},
      {"Qwen/Qwen2.5-3B-Instruct", 3085938688},
      {"Qwen/Qwen2.5-7B-Instruct", 7615616512},
      {"Qwen/Qwen2.5-Coder-0.5B-Instruct", 494032768},
      {"Qwen/Qwen2.5-Coder-1.5B-Instruct", 1543714304},
      {"HuggingFaceTB/SmolLM2-135M-Instruct", 134515008}};
  for (const auto& [name, count] : counts)
    EXPECT_EQ(published_config(name).parameter_count(), count) << name;
  EXPECT_THROW(published_config("no/such"), Error);
}

TEST(Preflight, SaysWhatIsMissingAndStillPlans) {
  setenv("HF_HUB_CACHE", "/nonexistent", 1);
  const Recipe recipe = Recipe::from_yaml(
      "pair: {source: {name: Qwen/Qwen3-0.6B}, target: {name: Qwen/Qwen2.5-0.5B-Instruct}}\ndata: "
      "{storage_dtype: bfloat16}\n",
      "r.yaml");
  RunContext context;
  context.paths = run_paths(testing::TempDir(), "d", "r");
  const Preflight p = run_preflight(recipe, context);
  unsetenv("HF_HUB_CACHE");
  EXPECT_FALSE(p.can_run());
  ASSERT_GE(p.problems.size(), 2u);
  EXPECT_THAT(p.problems[0], testing::HasSubstr("hf download Qwen/Qwen3-0.6B"));
  EXPECT_GT(p.corpus.samples, 0);
  EXPECT_EQ(p.plan.bytes_per_token, 126976);
  EXPECT_GT(p.machine.flops, 1e8);
  EXPECT_GT(p.machine.bandwidth, 1e8);
  const nlohmann::ordered_json json = to_json(p);
  EXPECT_EQ(json["can_run"], false);
  EXPECT_EQ(json["models"]["source"]["num_layers"], 28);
  EXPECT_EQ(json["stages"].size(), 7u);  // generate, three of training, evaluate, sweep, identity
  std::string text = to_text(p);
  EXPECT_THAT(text, testing::HasSubstr("NOT HERE"));
  EXPECT_THAT(text, testing::HasSubstr("cannot run:"));
  // A map of 28 layers x 1,024 channels to the rows of 600 short texts.
  const nlohmann::ordered_json& ridge = json["stages"][1];
  EXPECT_EQ(ridge["stage"], "ridge");
  EXPECT_NEAR(ridge["rows_per_feature"].get<double>(), p.plan.dataset_tokens * 0.95 / 28672,
              0.05 * p.plan.dataset_tokens / 28672);
  EXPECT_THAT(text, testing::HasSubstr("FEWER ROWS THAN FEATURES"));
}

TEST(Preflight, SaysWhetherTheRowsSuffice) {
  const auto text = [](double each) {
    Preflight p;
    p.plan.stages = {{.name = "ridge",
                      .step_size = static_cast<int64_t>(1000 * each),
                      .rows_per_feature = each}};
    return to_text(p);
  };
  EXPECT_THAT(text(0.5), testing::HasSubstr("500 rows, 1000 features, 0.50 rows each: FEWER ROWS"));
  EXPECT_THAT(text(8), testing::HasSubstr("1000 features, 8.0 rows each: few, about 12 % of"));
  EXPECT_THAT(text(8), testing::HasSubstr("add documents"));
  EXPECT_THAT(text(40), testing::HasSubstr("1000 features, 40.0 rows each\n"));
  EXPECT_THAT(text(40), testing::Not(testing::HasSubstr("add documents")));
}

// Before a card is borrowed: nothing is measured here, and a model that is not here but published
// is no reason against.
TEST(Preflight, PlansForACardThatIsNotHere) {
  setenv("HF_HUB_CACHE", "/nonexistent", 1);
  const Recipe recipe = Recipe::from_yaml(
      "pair: {source: {name: Qwen/Qwen3-4B}, target: {name: Qwen/Qwen2.5-3B-Instruct}}\n"
      "projector: {ridge: {candidate_layers: 4}, mlp: {hidden: 256, rank: 64}}\n",
      "r.yaml");
  RunContext context;
  context.paths = run_paths(testing::TempDir(), "d", "r");
  const auto plan_for = [&](const char* card) {
    return run_preflight(recipe, context, find_card(card));
  };
  const Preflight large = plan_for("h100"), small = plan_for("12GB");
  Preflight never = plan_for("12GB");
  rehearse(never, context, {});
  unsetenv("HF_HUB_CACHE");
  EXPECT_TRUE(large.can_run()) << large.problems.front();
  EXPECT_EQ(to_json(large)["fit"]["set"].size(), 0u);
  EXPECT_EQ(to_json(large)["device"]["here"], false);
  EXPECT_FALSE(small.can_run());
  ASSERT_TRUE(small.fit);
  EXPECT_EQ(cannot_run(small).code(), ExitCode::kDevice);
  const std::string text = to_text(small);
  EXPECT_THAT(text, testing::HasSubstr("not here  a card with 12 GB"));
  EXPECT_THAT(text, testing::HasSubstr("fits a card with 12 GB ("));
  EXPECT_THAT(text, testing::HasSubstr("with: --set "));
  EXPECT_THAT(text, testing::HasSubstr("nf4 (double) "));
  // What it says fits does.
  Recipe changed = Recipe::from_yaml(recipe.to_yaml(), "r.yaml", small.fit->set);
  EXPECT_TRUE(run_preflight(changed, context, find_card("12GB")).plan.fits_memory);
  EXPECT_EQ(never.rehearsal_problem, "the card is not here");
}

}  // namespace
}  // namespace kvlingua
