// A stage's results as they are written and read: what a resumed run goes on with.
#include "checkpoints/stage_result.h"

#include <gtest/gtest.h>

#include <cmath>

#include "checkpoints/train_state.h"
#include "kvlingua/base/error.h"

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

// Every number of a state, in its turn, as no run has written it: refused with file, field, what was
// got and what was expected, and a remedy.
TEST(StageResult, AStatesFieldsAreRefusedByName) {
  TrainState state;
  state.stage = "regression";
  state.step = state.global_step = state.total_steps = 30;
  state.validation = numbers();
  state.rate = 1e-3;
  state.best_score = state.start_score = state.start_r2 = 0.5;
  state.loss_scale = LossScaleState{.factor = 1024, .finite_steps = 3, .skipped = 1};
  state.stopped = Stopped{6, "held-out R2 -1", "lower the rate"};
  state.results.push_back({.stage = "ridge", .steps = 1, .validation = numbers()});
  const nlohmann::json whole = nlohmann::json::parse(state.to_json().dump());
  const auto read = [](const nlohmann::json& j) -> std::string {
    try {
      TrainState::from_json(j, "state.json");
      return "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      EXPECT_FALSE(error.parts().got.empty() || error.parts().expected.empty() ||
                   error.parts().remedy.empty())
          << error.what();
      return error.parts().where;
    }
  };
  const auto with = [&](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json damaged = whole;
    damaged[nlohmann::json::json_pointer(pointer)] = value;
    return read(damaged);
  };
  ASSERT_EQ(read(whole), "accepted");
  const nlohmann::json flat = whole.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (!value.is_number() || pointer.ends_with("tokens_per_second")) continue;  // written only
    EXPECT_NE(with(pointer, "7"), "accepted") << pointer;
    if (!value.is_number_integer()) continue;
    for (const nlohmann::json& bad :
         {nlohmann::json(-1), nlohmann::json(1.5), nlohmann::json(int64_t{1} << 62),
          nlohmann::json(UINT64_MAX), nlohmann::json(1e300)})
      EXPECT_NE(with(pointer, bad), "accepted") << pointer << " " << bad;
  }
  EXPECT_EQ(with("/rate", std::ldexp(1.0, 200)), "state.json: rate");
  EXPECT_EQ(with("/rate", 0), "state.json: rate");
  EXPECT_EQ(with("/loss_scale/factor", -1), "state.json: loss_scale.factor");
  EXPECT_EQ(with("/loss_scale/finite_steps", int64_t{1} << 40),
            "state.json: loss_scale.finite_steps");
  EXPECT_EQ(with("/results/0/validation/ridge/rows", int64_t{1} << 62),
            "state.json: results[0].validation.ridge.rows");
  EXPECT_EQ(with("/validation/per_layer/value_r2", nlohmann::json::array({1})),
            "state.json: validation.per_layer.value_r2");
  EXPECT_EQ(with("/best_step", 31), "state.json: best_step");
  EXPECT_EQ(with("/stopped/step", -1), "state.json: stopped.step");
  EXPECT_EQ(with("/stage", 3), "state.json: stage");
  EXPECT_EQ(with("/stage_finished", 1), "state.json: stage_finished");
}

}  // namespace
}  // namespace kvlingua
