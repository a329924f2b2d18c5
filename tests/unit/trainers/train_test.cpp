// The train verb on two tiny random models of different architecture and the built-in corpus.
#include "trainers/train.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoints/load_projector.h"
#include "checkpoints/store.h"
#include "datasets/generate.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/json_lines.h"
#include "kvlingua/projector/ridge.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"
#include "trainers/engine/pair_source.h"
#include "trainers/engine/validation.h"
#include "trainers/stages/ridge_fit.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// Pairs are generated once for all tests of this file.
class Train : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_log_level(LogLevel::kError);
    dir_ = new TempDir();
    kvlingua::testing::save_tiny_pair(dir_->path());
    generate(recipe(), kvlingua::testing::tiny_context(dir_->path()));
  }
  static void TearDownTestSuite() { delete dir_; }

  static Recipe recipe(const std::vector<std::string>& set = {}) {
    std::vector<std::string> all{"data.synthetic.documents=400",
                                 "data.queries=true",
                                 "projector.mlp.hidden=24",
                                 "projector.ridge.lambda=[1e-5, 1e-4, 1e-3, 1e-2]",
                                 "train.stages=[ridge, regression]",
                                 "train.regression.batch.size=64",
                                 "train.regression.batch.steps=60",
                                 "train.regression.optimizer.lr=3e-3",
                                 "train.regression.validate_every=20",
                                 "checkpoint.every=10",
                                 "data.validation=0.2"};
    all.insert(all.end(), set.begin(), set.end());
    Recipe r =
        Recipe::from_yaml(kvlingua::testing::tiny_recipe(dir_->path()).to_yaml(), "tiny.yaml", all);
    return r;
  }
  static RunContext context(const std::string& run) {
    RunContext c = kvlingua::testing::tiny_context(dir_->path());
    c.paths.run = dir_->path() / "checkpoints" / run;
    return c;
  }

  static TempDir* dir_;
};
TempDir* Train::dir_ = nullptr;

TEST_F(Train, MlpBeatsRidgeBeatsTheMean) {
  const TrainResult result = train(recipe(), context("order"));
  ASSERT_EQ(result.stages.size(), 2u);
  const ValidationNumbers &ridge = result.stages[0].validation, &mlp = result.stages[1].validation;
  // Random weights mix so little that a cache entry is its token's identity: that baseline is
  // beaten by trained models only.
  for (const auto part : {&RowScores::key_r2, &RowScores::value_r2}) {
    EXPECT_GT((*ridge.scores).*part, 0.3);
    EXPECT_GT((*mlp.scores).*part, (*ridge.scores).*part);
    EXPECT_NEAR(ridge.baselines.at("mean").*part, 0, 0.02);
    EXPECT_TRUE(ridge.baselines.contains("token_mean"));
  }
  EXPECT_GT(mlp.scores->attention_output_cosine.value(),
            ridge.baselines.at("mean").attention_output_cosine.value());
  EXPECT_EQ(ridge.per_layer.size(), 2u);
  EXPECT_EQ(load_projector(context("order").paths.run).projector->kind(), "mlp");
  EXPECT_EQ(load_projector(context("order").paths.run / "ridge").projector->kind(), "ridge");
  EXPECT_EQ(load_projector(context("order").paths.run / "ridge_aligned")
                .projector->config()["options"]["source_layers"],
            1);
  EXPECT_EQ(load_projector(context("order").paths.run, at::kCPU, at::kFloat, "ridge_aligned").stage,
            "ridge_aligned");
  EXPECT_GT(read_json_lines(context("order").paths.run / "metrics.jsonl").size(), 5u);
}

// Source rows dealt to other samples' targets: nothing to learn, and held-out R2 says so.
TEST_F(Train, ShuffledPairsGiveZero) {
  const fs::path set = context("x").paths.dataset;
  const auto rows = make_pair_source(set, {.batch_size = 256, .seed = 3, .epochs = 1});
  const KvShape source{3, 2, 16}, target{2, 2, 8};
  RidgeOptions options;
  options.lambda = {1e-2, 1e-1, 1, 10};
  RidgeSumsPair sums = make_ridge_sums(source, target, options, at::kCPU);
  while (auto batch = rows->next()) {
    at::manual_seed(3);
    const at::Tensor order = at::randperm(batch->rows());
    const CacheRows shuffled{batch->source.keys_NLHD.index_select(0, order),
                             batch->source.values_NLHD.index_select(0, order)};
    // The last quarter of each batch is held out.
    const int64_t cut = batch->rows() * 3 / 4;
    sums.train.add(shuffled.slice(0, cut), batch->target.slice(0, cut));
    sums.heldout.add(shuffled.slice(cut, batch->rows()), batch->target.slice(cut, batch->rows()));
  }
  const RidgeSolution solution = solve_ridge(sums.train, &sums.heldout, options);
  EXPECT_LT(solution.heldout_r2.abs().max().item<double>(), 0.05);
}

// The recipe's own control, and previous tokens: row batches, sequences and sums agree on them.
TEST_F(Train, ShufflePairsTeachesNothingAndPreviousTokensDoNoHarm) {
  const auto ridge = [&](const std::string& name, const std::string& set) {
    const auto result = train(recipe({"train.stages=[ridge]", set}), context(name));
    return result.stages[0].validation.scores->key_r2;
  };
  const double plain = ridge("plain", "projector.ridge.previous_tokens=0");
  EXPECT_GT(plain, 0.3);
  EXPECT_LT(ridge("shuffled", "train.shuffle_pairs=true"), 0.1);
  EXPECT_GT(ridge("previous", "projector.ridge.previous_tokens=2"), plain - 0.05);
  const auto previous = [&](const std::string& stage) {
    return load_projector(context("previous").paths.run / stage).projector->previous_tokens();
  };
  EXPECT_EQ(previous("ridge").tokens, 2);
  EXPECT_EQ(previous("ridge_aligned").tokens, 0);
}

TEST_F(Train, SkipsWhatIsDoneAndRestartsOnDemand) {
  const RunContext c = context("skip");
  const TrainResult first = train(recipe(), c);
  const auto time = fs::last_write_time(c.paths.run / "regression" / "manifest.json");
  const TrainResult second = train(recipe(), c);
  EXPECT_EQ(fs::last_write_time(c.paths.run / "regression" / "manifest.json"), time);
  EXPECT_EQ(first.stages.size(), second.stages.size());
  EXPECT_EQ(second.stages[1].last_loss, first.stages[1].last_loss);
  RunContext again = c;
  again.restart = true;
  const TrainResult third = train(recipe(), again);
  EXPECT_NE(fs::last_write_time(c.paths.run / "regression" / "manifest.json"), time);
  EXPECT_EQ(third.stages[1].last_loss,
            first.stages[1].last_loss);  // the same recipe, the same run
}

TEST_F(Train, PartsOfTheDataAddUpToTheWhole) {
  // Ridge over the set, and ridge over it once more with its own sums added: every row twice, the
  // same map.
  const RunContext once = context("once"), twice = context("twice");
  train(recipe({"train.stages=[ridge]"}), once);
  train(recipe({"train.stages=[ridge]",
                "projector.ridge.add_sums=[" + (once.paths.run / "ridge-sums").string() + "]"}),
        twice);
  const at::Tensor a = load_projector(once.paths.run).projector->parameters()[0].second;
  const at::Tensor b = load_projector(twice.paths.run).projector->parameters()[0].second;
  EXPECT_LT(((a - b).norm() / a.norm()).item<double>(), 1e-5);
}

TEST_F(Train, RidgeTellsItsLearningCurveAndWhatABudgetBuys) {
  const RunContext plain = context("no-curve"), curve = context("curve");
  train(recipe({"train.stages=[ridge]"}), plain);
  const auto result = train(recipe({"train.stages=[ridge]", "projector.ridge.curve=3"}), curve);
  const RidgeNumbers& told = *result.stages[0].validation.ridge;
  const auto& points = told.curve;
  ASSERT_EQ(points.size(), 4u);
  const auto rows = [&](size_t i) { return static_cast<double>(points[i].rows); };
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(rows(i + 1) / rows(i), 2, 0.5) << i;  // whole blocks
    EXPECT_GT(points[i + 1].heldout.key, points[i].heldout.key) << i;
  }
  EXPECT_EQ(points[3].heldout.value, told.heldout->value);
  EXPECT_LT(points[3].rows, told.rows);  // the held-out rows are in the map itself
  // The same map as without.
  const at::Tensor a = load_projector(plain.paths.run).projector->parameters()[0].second;
  const at::Tensor b = load_projector(curve.paths.run).projector->parameters()[0].second;
  EXPECT_LT(((a - b).norm() / a.norm()).item<double>(), 1e-5);

  const auto bought =
      train(recipe({"train.stages=[ridge]", "projector.ridge.previous_tokens=2",
                    "projector.ridge.previous_layers=[0, 1]", "projector.ridge.budget=3"}),
            context("budget"));
  const auto& chosen = bought.stages[0].validation.ridge->chosen;
  ASSERT_EQ(chosen.size(), 3u);
  EXPECT_EQ(chosen[0].tokens_before, 0);  // a token's own layers say most
  EXPECT_GT(chosen[2].r2, chosen[0].r2);
  EXPECT_EQ(bought.stages[0].validation.ridge->features, 3 * 2 * 16);
  // Sums over other previous tokens are no part of this map, though their shapes fit.
  EXPECT_THROW(train(recipe({"train.stages=[ridge]", "projector.ridge.previous_tokens=2",
                             "projector.ridge.previous_layers=[0, 2]",
                             "projector.ridge.add_sums=[" +
                                 (context("budget").paths.run / "ridge-sums").string() + "]"}),
                     context("other-sums")),
               Error);
}

TEST_F(Train, DryRunPlansAndWritesNothing) {
  RunContext c = context("dry");
  c.dry_run = true;
  const TrainResult result = train(recipe(), c);
  EXPECT_TRUE(result.dry_run);
  EXPECT_FALSE(fs::exists(c.paths.run));
  EXPECT_NE(result.table.text().find("regression"), std::string::npos);
  EXPECT_EQ(result.table.stages.at(1).steps, 60);
  EXPECT_GT(result.table.stages.at(1).memory, 1000);
}

TEST_F(Train, RegressionAloneStartsFromStatistics) {
  RunContext c = context("alone");
  const TrainResult result =
      train(recipe({"train.stages=[regression]", "train.regression.attention_weight=0.5",
                    "train.regression.batch.size=4", "train.regression.train_base=true"}),
            c);
  EXPECT_GT(result.stages[0].validation.scores->value_r2, 0.05);
}

TEST_F(Train, BadInputIsOneLine) {
  const auto message = [&](const Recipe& r, const RunContext& c) {
    try {
      train(r, c);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  RunContext none = context("bad");
  none.paths.dataset = dir_->path() / "datasets" / "nothing";
  EXPECT_NE(message(recipe(), none).find("nothing"), std::string::npos);
  RunContext file = context("bad");
  std::ofstream(dir_->path() / "plain") << "x";
  file.paths.run = dir_->path() / "plain" / "run";
  EXPECT_NE(message(recipe(), file), "no error");
}

}  // namespace
}  // namespace kvlingua
