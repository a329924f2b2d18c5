// What trained what: the recipe's part of a stage, and the first field in which two differ.
#include "checkpoints/provenance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "checkpoints/load_projector.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/projector/factory.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

Recipe recipe_with(const std::string& lines = {}) {
  return Recipe::from_yaml(
      "pair: {source: {name: a}, target: {name: b}}\nprojector: {kind: mlp}\n" + lines, "r.yaml");
}

Provenance made(const Recipe& recipe, const std::string& stage) {
  return {stage_recipe(recipe, stage, 1), "pairs", "start"};
}

TEST(Provenance, NamesTheFieldThatDiffers) {
  const auto was = made(recipe_with(), "regression").to_json();
  EXPECT_FALSE(provenance_difference(was, made(recipe_with(), "regression")));
  const auto differs = [&](const std::string& lines) {
    const auto d = provenance_difference(was, made(recipe_with(lines), "regression"));
    return d ? d->field : "none";
  };
  EXPECT_EQ(differs("train: {regression: {optimizer: {lr: 0.5}}}"),
            "train.regression.optimizer.lr");
  EXPECT_EQ(differs("train: {shuffle_pairs: true}"), "train.shuffle_pairs");
  // What another stage or nobody's result depends on.
  EXPECT_EQ(differs("train: {distillation: {items: 70}}"), "none");
  EXPECT_EQ(differs("train: {log_every: 7}"), "none");
  EXPECT_EQ(differs("checkpoint: {every: 7, name: other}"), "none");
  EXPECT_EQ(differs("data: {name: other, workers: 3}"), "none");
  EXPECT_EQ(differs("eval: {items: 7}"), "none");
  Provenance other = made(recipe_with(), "regression");
  other.pairs = "others";
  EXPECT_EQ(provenance_difference(was, other)->field, "pairs");
  other = made(recipe_with(), "regression");
  other.start = "";
  EXPECT_EQ(provenance_difference(was, other)->field, "start");
  EXPECT_EQ(provenance_difference(was, other)->asked, "none");
  other = made(recipe_with(), "regression");
  other.recipe["train.seed"] = 2;
  EXPECT_EQ(provenance_difference(was, other)->field, "train.seed");
}

TEST(Provenance, AnUnfinishedStageMayGoOnLonger) {
  const auto was = made(recipe_with(), "regression").to_json();
  const Provenance longer =
      made(recipe_with("train: {regression: {batch: {steps: 9999}}}"), "regression");
  EXPECT_TRUE(provenance_difference(was, longer, false));
  EXPECT_FALSE(provenance_difference(was, longer, true));
}

TEST(Provenance, WhatDoesNotSayIsNotRefused) {
  EXPECT_FALSE(provenance_difference(nullptr, made(recipe_with(), "ridge")));
  EXPECT_FALSE(provenance_difference({{"recipe", 3}, {"pairs", 4}}, made(recipe_with(), "ridge")));
}

// ---- descriptions that nobody checked

Checkpoint small(const std::string& kind = "mlp") {
  ProjectorOptions options;
  options.kind = kind;
  options.mlp.hidden = 4;
  const auto projector = make_projector({2, 1, 4}, {1, 2, 4}, options);
  Checkpoint c;
  c.state.stage = "regression";
  c.projector_config = projector->config();
  c.projector = projector->state();
  c.rng = RngState::capture();
  return c;
}

void expect_refused(const std::function<void(nlohmann::json&)>& change) {
  const TempDir dir;
  Checkpoint c = small();
  change(c.projector_config);
  write_checkpoint(c, dir.path());
  try {
    load_projector(dir.path());
    ADD_FAILURE() << c.projector_config.dump();
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ExitCode::kCorrupt || error.code() == ExitCode::kInput);
  }
}

TEST(Description, CannotAskForMoreThanTheWeightsBesideIt) {
  expect_refused([](nlohmann::json& j) { j["options"]["depth"] = int64_t{1} << 40; });
  expect_refused([](nlohmann::json& j) { j["options"]["depth"] = 64; });
  expect_refused([](nlohmann::json& j) { j["options"]["hidden"] = 1 << 16; });
  expect_refused([](nlohmann::json& j) { j["options"]["hidden"] = -1; });
  expect_refused([](nlohmann::json& j) { j["options"]["rank"] = 1 << 16; });
  expect_refused([](nlohmann::json& j) { j["options"]["dropout"] = 2.0; });
  expect_refused([](nlohmann::json& j) { j["ridge"]["layout"] = "sideways"; });
  expect_refused([](nlohmann::json& j) { j["ridge"]["source_layers"] = int64_t{1} << 50; });
  for (const char* extent : {"layers", "kv_heads", "head_dim"})
    expect_refused([&](nlohmann::json& j) { j["source"][extent] = 4096; });
  expect_refused([](nlohmann::json& j) { j["kind"] = "c2c"; });
  const TempDir dir;
  write_checkpoint(small(), dir.path());
  EXPECT_EQ(load_projector(dir.path()).stage, "regression");
}

// ---- training states of strangers

void expect_no_state(const std::string& field, const nlohmann::json& value) {
  nlohmann::json j = TrainState{.stage = "ridge"}.to_json();
  j[field] = value;
  try {
    TrainState::from_json(j, "state.json");
    ADD_FAILURE() << field << ": " << value.dump();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt);
    EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
  }
}

TEST(TrainState, RefusesWhatNoRunWrites) {
  for (const char* count : {"step", "total_steps", "global_step", "tokens", "best_step",
                            "validations_without_gain", "metrics_bytes"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(-1), nlohmann::json(1e300), nlohmann::json(.5), nlohmann::json(UINT64_MAX),
          nlohmann::json("3"), nlohmann::json(true), nlohmann::json(nullptr)})
      expect_no_state(count, value);
  }
  expect_no_state("results", nullptr);
  expect_no_state("results", nlohmann::json::array({3}));
  expect_no_state("results", {{"stage", "ridge"}});
  for (const nlohmann::json& scale :
       {nlohmann::json{{"factor", -1}, {"finite_steps", 0}, {"skipped", 0}},
        nlohmann::json{{"factor", 1e39}, {"finite_steps", 0}, {"skipped", 0}},
        nlohmann::json{{"factor", nullptr}, {"finite_steps", 0}, {"skipped", 0}},
        nlohmann::json{{"factor", 2}, {"finite_steps", -1}, {"skipped", 0}},
        nlohmann::json{{"factor", 2}, {"skipped", 0}}, nlohmann::json(2)})
    expect_no_state("loss_scale", scale);
  expect_no_state("stage", 3);
  expect_no_state("stage_finished", 1);
}

TEST(TrainState, KeepsALossThatWasNotFinite) {
  TrainState state{.stage = "regression"};
  state.first_loss = std::numeric_limits<double>::infinity();
  const auto text = state.to_json().dump();
  EXPECT_FALSE(
      std::isfinite(TrainState::from_json(nlohmann::json::parse(text), "state.json").first_loss));
}

TEST(CheckpointFiles, OfAnotherKindAreCorrupt) {
  const auto refused = [](const char* file, const nlohmann::json& value) {
    const TempDir dir;
    write_checkpoint(small(), dir.path());
    write_file_atomic(dir / file, value.dump());
    Manifest manifest = Manifest::load(dir / "manifest.json");
    manifest.set_file(dir.path(), file);
    manifest.save(dir / "manifest.json");
    try {
      read_checkpoint(dir.path());
      ADD_FAILURE() << file << ": " << value.dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt) << error.what();
    }
  };
  const nlohmann::json pair = small().pair.to_json();
  for (const nlohmann::json& version :
       {nlohmann::json("1"), nlohmann::json(nullptr), nlohmann::json(2), nlohmann::json::array()})
    refused("projector.json", {{"format_version", version}, {"projector", 1}, {"pair", pair}});
  refused("projector.json", 3);
  refused("projector.json", {{"format_version", 1}, {"projector", {}}, {"pair", 3}});
  refused("state.json", 3);
}

TEST(CheckpointFiles, AGeneratorsStateIsOne) {
  const TempDir dir;
  Checkpoint c = small();
  for (const at::Tensor& wrong :
       {at::zeros({3}, at::kByte), at::zeros_like(c.rng.cpu), at::zeros({5056}, at::kFloat)}) {
    c.rng.cpu = wrong;
    write_checkpoint(c, dir.path());
    try {
      read_checkpoint(dir.path());
      ADD_FAILURE() << wrong.sizes();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt) << error.what();
    }
  }
}

TEST(PairsRecipe, NamesWhatDecidesWhatPairsHold) {
  const auto recipe = [](const std::string& data) {
    return Recipe::from_yaml(
        "name: x\npair: {source: {name: a}, target: {name: b}}\ndata: {" + data + "}\n", "r.yaml");
  };
  const std::string made = recipe("max_length: 128, seed: 3, workers: 2").to_yaml();
  const auto difference = data_difference(made, recipe("max_length: 64"));
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->field, "data.max_length");
  EXPECT_EQ(difference->made_with, "128");
  EXPECT_EQ(difference->asked, "64");
  // Budgets, places and threads: no difference; nor a text that nobody can read any more.
  EXPECT_FALSE(data_difference(
      made, recipe("max_length: 128, seed: 3, max_samples: 5, workers: 1, files: [c.jsonl]")));
  EXPECT_FALSE(data_difference("data: {unknown: 1}", recipe("max_length: 64")));
  EXPECT_EQ(
      data_difference(made, recipe("max_length: 128, seed: 3, synthetic: {documents: 7}"))->field,
      "data.synthetic.documents");
}

TEST(PairsRecipe, NamesASeedThatNeitherTheRecipeNorTheCommandLineHad) {
  const auto recipe = [](int64_t seed) {
    return Recipe::from_yaml(
        cat("name: x\npair: {source: {name: a}, target: {name: b}}\ndata: {seed: ", seed, "}\n"),
        "r.yaml");
  };
  const std::string made = recipe(3).to_yaml();
  const auto changed = data_difference(made, recipe(4), 3);
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->field, "data.seed");
  EXPECT_EQ(changed->made_with, "3");
  EXPECT_EQ(changed->asked, "4");
  // generate --seed 7: the recipe as it was, and one that says so by now.
  EXPECT_FALSE(data_difference(made, recipe(3), 7));
  EXPECT_FALSE(data_difference(made, recipe(7), 7));
  EXPECT_EQ(data_difference(made, recipe(4), 7)->made_with, "7");
  EXPECT_EQ(data_difference(made, recipe(4))->made_with, "3");
}

TEST(Weights, ThatAreNotFiniteAreNeitherSavedNorLoaded) {
  const TempDir dir;
  Checkpoint c = small();
  c.projector[0].second = c.projector[0].second.clone();
  c.projector[0].second.view({-1})[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(write_checkpoint(c, dir.path()), Error);
  EXPECT_FALSE(std::filesystem::exists(dir / "manifest.json"));
}

TEST(CheckpointManifest, ListsEveryFile) {
  const TempDir dir;
  write_checkpoint(small(), dir.path());
  for (const char* file : {"projector.safetensors", "projector.json", "state.json", "recipe.yaml",
                           "optimizer.safetensors"}) {
    Manifest manifest = Manifest::load(dir / "manifest.json");
    manifest.remove(file);
    const TempDir copy;
    std::filesystem::copy(dir.path(), copy.path(),
                          std::filesystem::copy_options::overwrite_existing);
    manifest.save(copy / "manifest.json");
    try {
      read_checkpoint(copy.path());
      ADD_FAILURE() << file;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace kvlingua
