#include "kvlingua/config/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/temp_dir.h"

#include "kvlingua/base/nearest.h"

namespace kvlingua {
namespace {

constexpr const char* kPair = "pair:\n  source: {name: a/b}\n  target: {name: c/d}\n";

std::string error_of(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    Recipe::from_yaml(yaml, "r.yaml", overrides);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "no error";
}

TEST(Recipe, ReadsValuesAndKeepsDefaults) {
  const Recipe r = Recipe::from_yaml(
      std::string(kPair) +
          "data: {kind: jsonl, files: [x.jsonl], max_tokens: 1e6, shard_bytes: 64MiB}\n"
          "projector: {kind: ridge, ridge: {lambda: 1e-4}}\n"
          "train: {stages: ridge}\n",
      "dir/my recipe.yaml");
  EXPECT_EQ(r.name, "my_recipe");
  EXPECT_EQ(r.pair.source.name, "a/b");
  EXPECT_EQ(r.data.max_tokens, 1000000);
  EXPECT_EQ(r.data.shard_bytes, 64 << 20);
  EXPECT_EQ(r.data.text_field, "text");
  EXPECT_THAT(r.projector.ridge.lambda, testing::ElementsAre(1e-4));
  EXPECT_THAT(r.train.stages, testing::ElementsAre("ridge"));
  EXPECT_EQ(r.dataset_name(), "my_recipe");
}

TEST(Recipe, TypoNamesFileLineColumnAndNearestKey) {
  EXPECT_EQ(
      error_of(
          std::string(kPair) +
          "train:\n  regression:\n    optimizer:\n      leraning_rate: 1\n      wieght_decay: 0\n"),
      "r.yaml:7:7: unknown key leraning_rate in train.regression.optimizer; keys there: lr, "
      "weight_decay, beta1, beta2, eps, clip, "
      "schedule, warmup_steps, warmup_ratio, final_lr_ratio, ema (and 1 more; `kvlingua recipe "
      "check` lists them)");
  EXPECT_EQ(error_of(std::string(kPair) + "data:\n  max_lenght: 5\n"),
            "r.yaml:5:3: unknown key max_lenght in data; did you mean max_length?");
  EXPECT_EQ(error_of(std::string(kPair) + "trian: {}\n"),
            "r.yaml:4:1: unknown key trian; did you mean train?");
}

TEST(Recipe, RefusesWrongTypesRangesAndChoices) {
  EXPECT_EQ(error_of(std::string(kPair) + "data: {max_length: many}"),
            "r.yaml:4:20: data.max_length: got many, expected an integer");
  EXPECT_EQ(error_of(std::string(kPair) + "data: {max_length: \"5\"}"),
            "r.yaml:4:20: data.max_length: got the text \"5\", expected an integer");
  EXPECT_EQ(error_of(std::string(kPair) + "data: {max_length: 0}"),
            "r.yaml:4:20: data.max_length: got 0, expected 1 .. 1048576; the nearest is 1");
  EXPECT_EQ(error_of(std::string(kPair) + "data: {max_length: 1.5}"),
            "r.yaml:4:20: data.max_length: got 1.5, expected an integer");
  EXPECT_EQ(error_of(std::string(kPair) + "data: {chat: yes}"),
            "r.yaml:4:14: data.chat: got yes, expected true or false");
  EXPECT_EQ(error_of(std::string(kPair) + "projector: {kind: rigde}"),
            "r.yaml:4:19: projector.kind: got rigde, expected identity | noise | ridge | mlp | lcf "
            "| dense_latent | "
            "c2c; did you mean ridge?");
  EXPECT_EQ(error_of(std::string(kPair) + "train: {regression: {optimizer: {lr: 0}}}"),
            "r.yaml:4:38: train.regression.optimizer.lr: got 0, expected above 0, at most 1000");
  EXPECT_EQ(error_of(std::string(kPair) + "projector: {ridge: {lambda: [1, nan]}}"),
            "r.yaml:4:33: projector.ridge.lambda: got nan, expected a number");
  EXPECT_EQ(error_of(std::string(kPair) + "projector: ridge"),
            "r.yaml:4:12: projector: got ridge, expected a section of keys");
}

TEST(Recipe, RefusesDoubledKeysBrokenYamlAndSeveralDocuments) {
  EXPECT_EQ(error_of(std::string(kPair) + "data: {seed: 1, seed: 2}"),
            "r.yaml:4:17: key seed is given twice; remove one of them");
  EXPECT_THAT(error_of("pair: [1, 2\ndata: {"), testing::HasSubstr("not valid YAML"));
  EXPECT_THAT(error_of("a: 1\n---\nb: 2\n"),
              testing::HasSubstr("something stands after the end of the document"));
  EXPECT_THAT(error_of("a: 1\n]"), testing::HasSubstr("not valid YAML"));
  EXPECT_THAT(error_of(kPair, {"data.seed=[1]]"}), testing::HasSubstr("not valid YAML"));
  EXPECT_THAT(error_of("- 1\n"), testing::HasSubstr("a recipe is a map of sections"));
  EXPECT_THAT(error_of(std::string(5 << 20, ' ')), testing::HasSubstr("too large"));
}

TEST(Recipe, NamesWhatIsMissingAndRulesThatDoNotHold) {
  EXPECT_THAT(error_of("pair:\n  source: {name: x}\n"),
              testing::StartsWith("r.yaml:1:1: pair.target.name is missing"));
  EXPECT_THAT(error_of(std::string(kPair) + "data: {kind: jsonl}"),
              testing::StartsWith("r.yaml:4:1: data.files must name"));
  EXPECT_EQ(error_of(std::string(kPair) + "data: {min_length: 9, max_length: 8}"),
            "r.yaml:4:8: data.min_length must not be above max_length");
}

// What evaluation or training would refuse hours later, or pass over.
TEST(Recipe, RefusesWhatALaterStageWouldRefuse) {
  struct Case {
    const char* set;
    const char* said;
  };
  for (const auto& [set, said] : {
           Case{"eval.criteria.identity=2", "expected 0 .. 1; the nearest is 1"},
           Case{"eval.criteria.needle=1.5", "the nearest is 1"},
           Case{"eval.criteria.parametric_knowledge=-1", "the nearest is 0"},
           Case{"train.stages=[ridge, ridge]", "train.stages names ridge twice; leave one out"},
           Case{"eval.conditions=[full_text, ridge, full_text]", "names full_text twice"},
           Case{"eval.families=[needle, needle]", "eval.families names needle twice"},
           Case{"eval.forms=[question, question]", "names question twice"},
           Case{"eval.seeds=[3, 1, 3]", "eval.seeds names 3 twice"},
           Case{"eval.shifts=[8, 8]", "eval.shifts names 8 twice"},
           Case{"projector.ridge.lambda=[1e-4, 1e-4]", "names 0.0001 twice"},
           Case{"projector.ridge.previous_layers=[0, 0]", "names 0 twice"},
           Case{"data={kind: plain, files: [a, a]}", "data.files names a twice"},
           Case{"sweep.models=[a, a]", "sweep.models names a twice"},
           Case{"sweep.categories=[coding, coding]", "names coding twice"},
           Case{"sweep.cell=[a.b=1, a.b=2]", "sweep.cell names a.b twice"},
           Case{"sweep.cell=[a.b]", "write a.b=c"},
           Case{"sweep.pairs=[a b]", "write \"source -> target\""},
           Case{"sweep.sources=[a]", "sweep.targets is empty"},
           Case{"eval.gated=distiled", "did you mean distilled?"},
           Case{"eval.gated=full_text", "expected none | identity"},
           Case{"eval.partial=[{name: ridge}]", "a condition of its own"},
           Case{"eval.partial=[{name: a}, {name: a}]", "eval.partial names a twice"},
           Case{"eval={gated: none, conditions: [wrong_source]}", "eval.gated is none"},
           Case{"train.regression={key_weight: 0, value_weight: 0}", "must not both be 0"},
           Case{"train.regression.layer_weights=[0, 0]", "layer_weights must not all be 0"},
           Case{"train.regression.attention_weight=1", "data.queries false"},
           Case{"train.regression={patience: 3, validate_every: 0}", "validate_every is 0"},
           Case{"train.distillation={patience: 3, validate_every: 0}", "validate_every is 0"},
           Case{"train.distillation.divergence_kl=0.5", "0 for never, or 1 at least"},
           Case{"train.distillation.temperature=1e-9", "the nearest is 0.01"},
           Case{"train.regression={batch: {steps: 10}, optimizer: {warmup_steps: 10}}",
                "optimizer.warmup_steps is not below batch.steps, so that the rate never gets to "
                "its peak; at most 9"},
           Case{"train.regression.optimizer.lr=1e9", "the nearest is 1000"},
           Case{"train.regression.optimizer={lr: 100, weight_decay: 1}", "below 0.01"},
           Case{"train.regression.batch.epochs=1e300", "the nearest is 1e+06"},
           Case{"train.regression.batch.steps=9e18", "the nearest is 1e+12"},
           Case{"train.stages=[c2c, ridge]", "c2c alone"},
           Case{"train.stages=[c2c]", "projector.c2c.mode fuse, not mlp"},
           Case{"projector={kind: c2c}", "whose target never reads the context"},
           Case{"projector.kind=identity", "has nothing to train; ridge or mlp"},
           Case{"projector.ridge.holdout=0", "projector.ridge.lambda has several values"},
           Case{"projector.ridge={holdout: 0, lambda: 1e-4, gain: 1}", "gain is of the held-out"},
           Case{"projector.ridge={holdout: 0, lambda: 1e-4, budget: 8}", "budget is spent"},
           Case{"projector.ridge={source_layers: 4, candidate_layers: 2}", "at most 2"},
           Case{"pair.device=gpu", "auto, cpu, cuda or cuda:N"},
           Case{"pair.source={name: a, chat: llama3, thinking: true}", "set it to false"},
       }) {
    EXPECT_THAT(error_of(kPair, {set}), testing::HasSubstr(said)) << set;
  }
  EXPECT_THAT(error_of(kPair, {"projector.ridge.previous_tokens=2", "data.tokens_per_sample=8"}),
              testing::HasSubstr("data.tokens_per_sample leaves out"));
  EXPECT_THAT(error_of(kPair, {"train.regression.patience=3", "data.validation=0"}),
              testing::HasSubstr("data.validation is 0"));
  EXPECT_THAT(error_of(std::string(kPair) + "train:\n  stages: [ridge, ridge]\n"),
              testing::StartsWith("r.yaml:5:3: train.stages names ridge twice"));
  // Lists whose entries may be alike, and what is only unusual.
  for (const char* set :
       {"train.distillation.families=[open, open, identity]",
        "train.regression.layer_weights=[1, 1]", "eval.criteria.identity=1",
        "projector.c2c.source_layer=[0, 0, 1]", "projector.ridge={holdout: 0, lambda: 1e-4}"})
    EXPECT_EQ(error_of(kPair, {set}), "no error") << set;
}

TEST(Recipe, NamesThatLeaveTheirFolderAreRefused) {
  EXPECT_THAT(error_of(std::string(kPair) + "name: ../../etc"),
              testing::HasSubstr("it names a folder"));
  EXPECT_THAT(error_of(std::string(kPair) + "checkpoint: {name: a/b}"),
              testing::HasSubstr("it names a folder"));
}

TEST(Recipe, OverridesApplyInOrderAndAreNamedInErrors) {
  const Recipe r = Recipe::from_yaml(
      kPair, "r.yaml",
      {"data.max_length=64", "train.stages=[ridge, regression]", "data.max_length=32",
       "pair.source.name=other/model", "train.regression.optimizer.lr=2e-3"});
  EXPECT_EQ(r.data.max_length, 32);
  EXPECT_EQ(r.pair.source.name, "other/model");
  EXPECT_THAT(r.train.stages, testing::ElementsAre("ridge", "regression"));
  EXPECT_EQ(r.train.regression.optimizer.lr, 2e-3);
  EXPECT_EQ(error_of(kPair, {"data.max_lenght=3"}),
            "--set data.max_lenght=3: unknown key max_lenght in data; did you mean max_length?");
  EXPECT_EQ(error_of(kPair, {"data.max_length=x"}),
            "--set data.max_length=x: data.max_length: got x, expected an integer");
  EXPECT_EQ(error_of(kPair, {"data.max_length"}),
            "--set data.max_length: wrong form: expected section.key=value");
  EXPECT_EQ(error_of(kPair, {"data..x=1"}),
            "--set data..x=1: wrong form: expected section.key=value");
  EXPECT_EQ(error_of(kPair, {"data.min_length=2000"}),
            "--set data.min_length=2000: data.min_length must not be above max_length");
}

TEST(Recipe, ResolvedYamlReadsBackToItself) {
  const Recipe r = Recipe::from_yaml(std::string(kPair) +
                                         "name: n\ndescription: 'say \"hi\": # \\ \t\u00e9'\n"
                                         "eval: {benchmarks: [{file: a.csv}, {kind: ceval, file: "
                                         "b.csv, limit: 3}], seeds: [1, 2]}\n",
                                     "r.yaml", {"data.validation=0.1"});
  const std::string yaml = r.to_yaml();
  const Recipe again = Recipe::from_yaml(yaml, "again.yaml");
  EXPECT_EQ(again.to_yaml(), yaml);
  EXPECT_EQ(again.recipe_sha256(), r.recipe_sha256());
  EXPECT_EQ(again.description, r.description);
  ASSERT_EQ(again.eval.benchmarks.size(), 2u);
  EXPECT_EQ(again.eval.benchmarks[1].kind, "ceval");
  EXPECT_EQ(again.data.validation, 0.1);
  const Recipe other = Recipe::from_yaml(yaml, "again.yaml", {"data.seed=7"});
  EXPECT_NE(other.recipe_sha256(), r.recipe_sha256());
}

TEST(Recipe, DescribesEveryFieldWithHelp) {
  Recipe r;
  for (const OptionRow& row : describe_options(visit_of(r))) {
    if (row.path.ends_with("optimizer") || row.path.ends_with("batch"))
      continue;  // named by what is around them
    EXPECT_FALSE(row.help.empty()) << row.path << " has no help";
  }
}

TEST(NearestName, FindsTyposAndStaysSilentWhenNothingIsNear) {
  EXPECT_EQ(nearest_name("sorce", {"source", "target"}), "source");
  EXPECT_EQ(nearest_name("max-length", {"max_length", "min_length"}), "max_length");
  EXPECT_EQ(nearest_name("lambda_grid", {"lambda", "holdout"}), "lambda");
  EXPECT_EQ(nearest_name("xyzzy", {"source", "target"}), "");
}

// What a recipe extends is read first; its own keys win, lists as a whole, and so do overrides.
TEST(Recipe, ExtendsAnother) {
  const TempDir dir;
  std::filesystem::create_directories(dir / "below");
  std::ofstream(dir / "common.inc")
      << "name: common\ndata: {max_length: 77}\ntrain: {stages: [ridge, regression]}\n"
         "projector: {ridge: {previous_tokens: 3, lambda: [1e-3, 1e-2]}}\n";
  std::ofstream(dir / "middle.inc") << "extends: common.inc\ndata: {min_length: 5}\n";
  std::ofstream(dir / "below/mine.yaml")
      << "extends: ../middle.inc\npair: {source: {name: a}, target: {name: b}}\n"
         "train: {stages: [ridge]}\nprojector: {ridge: {lambda: [1e-5]}}\n";
  const Recipe recipe = Recipe::load(dir / "below/mine.yaml", {"data.max_length=99"});
  EXPECT_EQ(recipe.name, "mine");
  EXPECT_EQ(recipe.extends, "");
  EXPECT_EQ(recipe.data.max_length, 99);
  EXPECT_EQ(recipe.data.min_length, 5);
  EXPECT_EQ(recipe.train.stages, std::vector<std::string>{"ridge"});
  EXPECT_EQ(recipe.projector.ridge.previous_tokens, 3);
  EXPECT_EQ(recipe.projector.ridge.lambda, std::vector<double>{1e-5});
  // The resolved one stands for itself.
  EXPECT_EQ(Recipe::from_yaml(recipe.to_yaml(), "elsewhere.yaml").to_yaml(), recipe.to_yaml());
}

TEST(Recipe, WhatItExtendsIsNamedWhereItIsWrong) {
  const TempDir dir;
  const auto message = [&](const std::string& common) {
    std::ofstream(dir / "common.inc") << common;
    std::ofstream(dir / "mine.yaml")
        << "extends: common.inc\npair: {source: {name: a}, target: {name: b}}\n";
    try {
      Recipe::load(dir / "mine.yaml");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message("data: {max_lenght: 77}").find("common.inc:1:"), std::string::npos);
  EXPECT_NE(message("extends: mine.yaml").find("circle"), std::string::npos);
  EXPECT_NE(message("extends: none.inc").find("none.inc"), std::string::npos);
}

TEST(Recipe, TrainingWithoutStoredPairsIsRefusedWhenTheRecipeIsRead) {
  const std::string said = error_of(std::string(kPair) + "data: {online: true}");
  EXPECT_THAT(said, testing::HasSubstr("r.yaml:4:8: data.online must be false"));
  EXPECT_THAT(said, testing::HasSubstr("projector.ridge.add_sums"));
  EXPECT_THAT(
      error_of(kPair, {"data.online=true"}),
      testing::AllOf(testing::HasSubstr("data.online"), testing::HasSubstr("must be false")));
  EXPECT_EQ(error_of(std::string(kPair) + "data: {online: false}"), "no error");
}

}  // namespace
}  // namespace kvlingua
