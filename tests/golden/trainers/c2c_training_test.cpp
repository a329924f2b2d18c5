// Ten training steps beside Cache-to-Cache's own code (scripts/goldens/c2c_training.py): two tiny
// random models, dropout off, every draw of the gates 0.5. Loss, learning rate, temperature and
// gradient norm of each step, the weights after the last, and the optimizer's moments as its
// training_state.pt has them. KVLINGUA_C2C_TRAINING names a folder that the same script wrote of
// other models: the embedded pair, or real shapes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "checkpoints/c2c_import.h"
#include "support/c2c_training.h"
#include "trainers/c2c/fusion_objective.h"
#include "trainers/engine/trainer.h"

namespace kvlingua {
namespace {

const std::filesystem::path kData = testing::c2c_training_data();

class C2cTraining : public ::testing::Test {
 protected:
  testing::C2cTrainingRun run_;
  CausalLM target_ = CausalLM::load(kData / "target");
  CausalLM source_ = CausalLM::load(kData / "source");
};

using testing::relative;

TEST_F(C2cTraining, TenStepsBesideItsOwnCode) {
  C2CProjector projector(read_c2c_directory(kData / "initial"), "fuse");
  FusionObjective objective(projector, source_, target_, run_.items, run_.objective_options());
  ASSERT_EQ(objective.micro_batches_per_epoch(), 20);
  ASSERT_EQ(objective.steps(run_.objective_options().train.batch), 10);
  const std::vector<StepReport> reports = testing::train_as(run_, projector, objective);

  ASSERT_EQ(reports.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    const auto& step = run_.record["steps"][i];
    EXPECT_LT(relative(reports[i].loss, run_.loss(i)), 1e-4) << "step " << i;
    EXPECT_DOUBLE_EQ(reports[i].lr, step["learning_rate"].get<double>()) << "step " << i;
    EXPECT_LT(relative(reports[i].gradient_norm, step["grad_norm"].get<double>()), 1e-3)
        << "step " << i;
    ASSERT_EQ(reports[i].parts.at(0).first, "temperature");
    // Of the forward pass: parts are taken before the step moves it.
    EXPECT_FLOAT_EQ(static_cast<float>(reports[i].parts[0].second),
                    step["temperature"].get<float>())
        << "step " << i;
  }

  // The weights it ended with; its own script opened the gates by hand before it saved them. By
  // Adam's rule a weight whose gradient is rounding noise may go the other way, so of many weights
  // the way they went together is compared.
  const C2CFuser trained = read_c2c_directory(kData / "trained"),
                 initial = read_c2c_directory(kData / "initial");
  double apart = 0, moved = 0;
  for (size_t i = 0; i < trained.parameters().size(); ++i) {
    const auto& [name, expected] = trained.parameters()[i];
    if (name == "gate_logit") continue;
    const at::Tensor& got = projector.fuser().parameters()[i].second;
    if (testing::c2c_training_is_tiny()) {
      EXPECT_LT((got - expected).abs().max().item<double>(), 2e-4) << name;
    }
    apart += (got - expected).square().sum().item<double>();
    moved += (expected - initial.parameters()[i].second).square().sum().item<double>();
  }
  RecordProperty("weights_apart", std::to_string(std::sqrt(apart / moved)));
  EXPECT_LT(std::sqrt(apart / moved), .01);
}

// Its training_state.pt in this program's optimizer: the moments are those that ten steps here end
// with, and the next step goes on from there.
TEST_F(C2cTraining, ItsOptimizerStateGoesOnHere) {
  if (!std::filesystem::exists(kData / "trained" / "training_state.pt"))
    GTEST_SKIP() << "no training_state.pt in " << kData;
  const C2CFuser trained = read_c2c_directory(kData / "trained");
  const C2CTrainingState theirs =
      read_c2c_training_state(kData / "trained" / "training_state.pt", trained);
  EXPECT_EQ(theirs.step, 10);

  C2CProjector ours(read_c2c_directory(kData / "initial"), "fuse");
  FusionObjective objective(ours, source_, target_, run_.items, run_.objective_options());
  Observers none;
  NamedTensors optimizer;
  Trainer trainer(ours, objective, run_.trainer_options(), none, [&](const Checkpoint& c) {
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
  FusionObjective more(next, source_, target_, run_.items, run_.objective_options());
  TrainerOptions options = run_.trainer_options();
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
