// What scripts/goldens/c2c_training.py wrote: Cache-to-Cache's own training steps and generations.
#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "trainers/c2c/c2c_policy.h"
#include "trainers/c2c/fusion_objective.h"
#include "trainers/engine/observer.h"
#include "trainers/engine/trainer.h"

namespace kvlingua::testing {

// The tiny models of tests/golden, unless KVLINGUA_C2C_TRAINING names another folder; all_in_one
// there is the older class, include_response has the response fused too.
inline std::filesystem::path c2c_training_data() {
  const char* other = std::getenv("KVLINGUA_C2C_TRAINING");
  return other != nullptr ? std::filesystem::path(other)
                          : std::filesystem::path(KVLINGUA_TEST_DATA) / "c2c" / "training";
}
inline bool c2c_training_is_tiny() {
  return c2c_training_data().string().starts_with(KVLINGUA_TEST_DATA);
}

inline double relative(double got, double expected) {
  return std::abs(got - expected) / std::max(std::abs(expected), 1e-12);
}

// Its run: the batches are the items in order.
struct C2cTrainingRun {
  nlohmann::json record;
  std::vector<FusionItem> items;

  C2cTrainingRun() {
    std::ifstream in(c2c_training_data() / "golden.json");
    record = nlohmann::json::parse(in);
    for (const auto& step : record["steps"]) {
      for (const auto& micro : step["micro"]) {
        for (const auto& row : micro["rows"]) {
          items.push_back({.target_ids = row.get<std::vector<int32_t>>(),
                           .prompt = micro["prompt"].get<int32_t>()});
        }
      }
    }
  }

  // Its options.
  FusionObjectiveOptions objective_options() const {
    FusionObjectiveOptions options{.in_order = true, .uniform = 0.5};
    options.train.batch.size = 3;
    options.train.batch.accumulation = record["accumulation"];
    options.train.train_ratio = 1;
    options.train.unweighted_micro_batches = true;
    options.train.include_response = record.value("include_response", false);
    return options;
  }
  TrainerOptions trainer_options() const {
    TrainerOptions options;
    options.optimizer = {.lr = record["learning_rate"],
                         .weight_decay = record["weight_decay"],
                         .clip = record["max_grad_norm"],
                         .schedule = "linear",
                         .warmup_ratio = 0.2};
    options.accumulation = record["accumulation"];
    options.total_steps = record["total_steps"];
    options.log_every = 1;
    options.policy = c2c_policy();
    return options;
  }

  // The mean loss of a step's micro-batches.
  double loss(size_t step) const {
    double sum = 0;
    for (const auto& micro : record["steps"][step]["micro"]) sum += micro["loss"].get<double>();
    return sum / record["accumulation"].get<double>();
  }
};

// What a trainer reports of its steps.
class StepRecorder : public Observer {
 public:
  explicit StepRecorder(std::vector<StepReport>& into) : into_(into) {}
  void step(const StepReport& report) override { into_.push_back(report); }

 private:
  std::vector<StepReport>& into_;
};

// Trains `projector` as that run was; the steps' reports.
inline std::vector<StepReport> train_as(const C2cTrainingRun& run, C2CProjector& projector,
                                        FusionObjective& objective) {
  std::vector<StepReport> reports;
  Observers observers;
  observers.push_back(std::make_unique<StepRecorder>(reports));
  Trainer trainer(projector, objective, run.trainer_options(), observers,
                  [](const Checkpoint&) { return std::string("memory"); });
  TrainState state;
  state.stage = "c2c";
  trainer.fit(state);
  return reports;
}

}  // namespace kvlingua::testing
