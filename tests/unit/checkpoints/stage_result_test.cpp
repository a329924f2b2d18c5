// A stage's results as they are written and read: what a resumed run goes on with.
#include "checkpoints/stage_result.h"

#include <gtest/gtest.h>

#include "checkpoints/train_state.h"

namespace kvlingua {
namespace {

RowScores scores(double first) {
  return {.key_r2 = first, .value_r2 = first / 2, .key_cosine = 0.9, .value_cosine = 0.8};
}

ValidationNumbers numbers() {
  ValidationNumbers n{.scores = scores(0.75), .per_layer = {scores(0.5), scores(1)}, .rows = 40};
  n.baselines["mean"] = scores(0);
  n.kl = 0.25;
  n.kl_trained = 0.125;
  n.ridge = RidgeNumbers{.rows = 100, .features = 8, .rows_per_feature = 12.5};
  n.ridge->fitted = n.ridge->heldout = n.ridge->doubled = RidgeNumbers::R2{0.5, 0.25};
  for (RowScores& layer : n.per_layer) layer.attention_output_cosine = 0.5;
  return n;
}

TEST(StageResult, ValidationGoesThroughJsonUnchanged) {
  const nlohmann::json j = numbers().to_json();
  EXPECT_EQ(ValidationNumbers::from_json(j), numbers());
  EXPECT_EQ(ValidationNumbers::from_json(nlohmann::json::object()), ValidationNumbers());
  EXPECT_EQ(j["per_layer"]["value_r2"], nlohmann::json({0.25, 0.5}));
  EXPECT_TRUE(j["attention_output_cosine"].is_null());
  EXPECT_EQ(j["ridge"]["doubled_value_r2"], 0.25);
  EXPECT_EQ(numbers().mean_r2(), (0.75 + 0.375) / 2);
  EXPECT_TRUE(std::isnan(ValidationNumbers().mean_r2()));
}

TEST(StageResult, StateKeepsResultsValidationAndWhyItStopped) {
  TrainState state;
  state.stage = "regression";
  EXPECT_TRUE(state.to_json()["validation"].is_null());
  state.validation = numbers();
  state.stopped = Stopped{6, "held-out R2 -1", "lower the rate"};
  state.results.push_back({.stage = "ridge",
                           .steps = 1,
                           .tokens = 100,
                           .seconds = 4,
                           .last_loss = NAN,
                           .validation = numbers(),
                           .start_score = 1,
                           .best_step = 3,
                           .stopped = state.stopped,
                           .checkpoint = "run/ridge"});
  const nlohmann::json j = state.to_json();
  const TrainState again = TrainState::from_json(nlohmann::json::parse(j.dump()), "state.json");
  EXPECT_EQ(again.to_json().dump(), j.dump());
  EXPECT_EQ(again.stopped, state.stopped);
  EXPECT_EQ(again.results.at(0).best_step, 3);
  EXPECT_TRUE(std::isnan(again.results.at(0).last_loss));
  EXPECT_EQ(j["results"][0]["tokens_per_second"], 25);
}

}  // namespace
}  // namespace kvlingua
