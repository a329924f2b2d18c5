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
  EXPECT_EQ(json["stages"].size(), 5u);
  const std::string text = to_text(p);
  EXPECT_THAT(text, testing::HasSubstr("NOT HERE"));
  EXPECT_THAT(text, testing::HasSubstr("cannot run:"));
}

}  // namespace
}  // namespace kvlingua
