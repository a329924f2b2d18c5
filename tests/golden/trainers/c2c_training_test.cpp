// Ten training steps beside Cache-to-Cache's own code (scripts/goldens/c2c_training.py): two tiny
// random models, dropout off, every draw of the gates 0.5. Loss, learning rate, temperature and
// gradient norm of each step, the weights after the last, and the optimizer's moments as its
// training_state.pt has them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoints/c2c_import.h"
#include "trainers/fusion_objective.h"
#include "trainers/trainer.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
const fs::path kData = fs::path(KVLINGUA_TEST_DATA) / "c2c" / "training";

class Recorder : public Observer {
 public:
  explicit Recorder(std::vector<StepReport>& into) : into_(into) {}
  void step(const StepReport& report) override { into_.push_back(report); }

 private:
  std::vector<StepReport>& into_;
};

class C2cTraining : public ::testing::Test {
 protected:
  C2cTraining() {
    std::ifstream in(kData / "golden.json");
    record_ = nlohmann::json::parse(in);
    for (const auto& step : record_["steps"]) {
      for (const auto& micro : step["micro"]) {
        for (const auto& row : micro["rows"]) {
          items_.push_back({.target_ids = row.get<std::vector<int32_t>>(),
                            .prompt = micro["prompt"].get<int32_t>()});
        }
      }
    }
  }

  // The golden run's options; its batches are the items in order.
  FusionObjectiveOptions objective_options() const {
    FusionObjectiveOptions options{.in_order = true, .uniform = 0.5};
    options.train.batch.size = 3;
    options.train.batch.accumulation = record_["accumulation"];
    options.train.train_ratio = 1;
    options.train.unweighted_micro_batches = true;
    return options;
  }
  TrainerOptions trainer_options() const {
    TrainerOptions options;
    options.optimizer = {.lr = record_["learning_rate"],
                         .weight_decay = record_["weight_decay"],
                         .clip = record_["max_grad_norm"],
                         .schedule = "linear",
                         .warmup_ratio = 0.2};
    options.accumulation = record_["accumulation"];
    options.total_steps = record_["total_steps"];
    options.log_every = 1;
    options.transformers_schedule = options.decay_all = true;
    return options;
  }

  nlohmann::json record_;
  std::vector<FusionItem> items_;
  CausalLM target_ = CausalLM::load(kData / "target");
  CausalLM source_ = CausalLM::load(kData / "source");
};

double relative(double got, double expected) {
  return std::abs(got - expected) / std::max(std::abs(expected), 1e-12);
}

TEST_F(C2cTraining, TenStepsBesideItsOwnCode) {
  C2CProjector projector(read_c2c_directory(kData / "initial"), "fuse");
  FusionObjective objective(projector, source_, target_, items_, objective_options());
  ASSERT_EQ(objective.micro_batches_per_epoch(), 20);
  ASSERT_EQ(objective.steps(objective_options().train.batch), 10);
  std::vector<StepReport> reports;
  std::vector<double> temperatures;
  Observers observers;
  observers.push_back(std::make_unique<Recorder>(reports));
  Checkpoint last;
  Trainer trainer(projector, objective, trainer_options(), observers, [&](const Checkpoint& c) {
    last = c.snapshot();
    return std::string("memory");
  });
  TrainState state;
  state.stage = "c2c";
  trainer.fit(state);

  ASSERT_EQ(reports.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    const auto& step = record_["steps"][i];
    double loss = 0;
    for (const auto& micro : step["micro"])
      loss += micro["loss"].get<double>() / record_["accumulation"].get<double>();
    EXPECT_LT(relative(reports[i].loss, loss), 1e-4) << "step " << i;
    EXPECT_DOUBLE_EQ(reports[i].lr, step["learning_rate"].get<double>()) << "step " << i;
    EXPECT_LT(relative(reports[i].gradient_norm, step["grad_norm"].get<double>()), 1e-3)
        << "step " << i;
    ASSERT_EQ(reports[i].parts.at(0).first, "temperature");
    // Of the forward pass: parts are taken before the step moves it.
    EXPECT_FLOAT_EQ(static_cast<float>(reports[i].parts[0].second),
                    step["temperature"].get<float>())
        << "step " << i;
  }

  // The weights it ended with; its own script opened the gates by hand before it saved them.
  const C2CFuser trained = read_c2c_directory(kData / "trained");
  for (size_t i = 0; i < trained.parameters().size(); ++i) {
    const auto& [name, expected] = trained.parameters()[i];
    if (name == "gate_logit") continue;
    const at::Tensor& got = projector.fuser().parameters()[i].second;
    EXPECT_LT((got - expected).abs().max().item<double>(), 2e-4) << name;
  }
}

// Its training_state.pt in this program's optimizer: the moments are those that ten steps here end
// with, and the next step goes on from there.
TEST_F(C2cTraining, ItsOptimizerStateGoesOnHere) {
  const C2CFuser trained = read_c2c_directory(kData / "trained");
  const C2CTrainingState theirs =
      read_c2c_training_state(kData / "trained" / "training_state.pt", trained);
  EXPECT_EQ(theirs.step, 10);

  C2CProjector ours(read_c2c_directory(kData / "initial"), "fuse");
  FusionObjective objective(ours, source_, target_, items_, objective_options());
  Observers none;
  NamedTensors optimizer;
  Trainer trainer(ours, objective, trainer_options(), none, [&](const Checkpoint& c) {
    optimizer = c.snapshot().optimizer;
    return std::string("memory");
  });
  TrainState state;
  trainer.fit(state);
  std::vector<at::Tensor> first, second;
  for (const auto& [a, b] : theirs.moments) {
    first.push_back(a.flatten());
    second.push_back(b.flatten());
  }
  const std::map<std::string, at::Tensor> mine(optimizer.begin(), optimizer.end());
  const auto near = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).norm().item<double>() / b.norm().item<double>();
  };
  EXPECT_LT(near(mine.at("first_moment"), at::cat(first)), 2e-3);
  EXPECT_LT(near(mine.at("second_moment"), at::cat(second)), 2e-3);

  // Adopted, they are exactly what a checkpoint then holds.
  C2CProjector next(read_c2c_directory(kData / "trained"), "fuse");
  FusionObjective more(next, source_, target_, items_, objective_options());
  TrainerOptions options = trainer_options();
  options.total_steps = 10;
  Trainer adopting(next, more, options, none, [&](const Checkpoint& c) {
    optimizer = c.snapshot().optimizer;
    return std::string("memory");
  });
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> moments;
  for (size_t i = 0; i < theirs.moments.size(); ++i)
    moments[next.fuser().parameters()[i].first] = theirs.moments[i];
  adopting.adopt_moments(moments, theirs.step);
  more.seek(theirs.step, options.accumulation);
  TrainState there;
  there.step = theirs.step;
  adopting.fit(there);  // nothing left to do: saves
  const std::map<std::string, at::Tensor> held(optimizer.begin(), optimizer.end());
  EXPECT_TRUE(at::equal(held.at("first_moment"), at::cat(first)));
  EXPECT_TRUE(at::equal(held.at("second_moment"), at::cat(second)));
  EXPECT_EQ(held.at("steps").item<int64_t>(), 10);
  EXPECT_FLOAT_EQ(static_cast<float>(next.fuser().temperature()), 1e-3f);
}

}  // namespace
}  // namespace kvlingua
