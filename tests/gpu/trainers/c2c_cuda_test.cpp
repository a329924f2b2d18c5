// Cache-to-Cache's training on a CUDA device, where the source reads ahead on a stream of its own,
// beside that project's own losses (scripts/goldens/c2c_training.py). Skips aloud without a device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "checkpoints/c2c_import.h"
#include "support/c2c_training.h"

namespace kvlingua {
namespace {

TEST(CudaC2cTraining, TenStepsBesideItsOwnCode) {
  if (at::getNumGPUs() == 0) GTEST_SKIP() << "no CUDA device";
  at::globalContext().setFloat32MatmulPrecision("highest");
  const testing::C2cTrainingRun run;
  const LoadOptions there{.device = at::Device("cuda:0")};
  const auto data = testing::c2c_training_data();
  const CausalLM target = CausalLM::load(data / "target", there),
                 source = CausalLM::load(data / "source", there);
  std::vector<double> first;
  for (int again = 0; again < 3; ++again) {  // a race would not fall the same way each time
    C2CProjector projector(read_c2c_directory(data / "initial"), "fuse");
    projector.to(at::Device("cuda:0"), at::kFloat);
    FusionObjective objective(projector, source, target, run.items, run.objective_options());
    const std::vector<StepReport> reports = testing::train_as(run, projector, objective);
    ASSERT_EQ(reports.size(), 10u);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_LT(testing::relative(reports[i].loss, run.loss(i)), 1e-3) << "step " << i;
      if (again == 0) first.push_back(reports[i].loss);
      EXPECT_LT(testing::relative(reports[i].loss, first[i]), 1e-5) << "step " << i;
    }
  }
}

}  // namespace
}  // namespace kvlingua
