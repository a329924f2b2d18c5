// The factor of float16 gradients, step by step, against torch.amp.GradScaler
// (scripts/goldens/loss_scale.py).
#include "trainers/engine/loss_scale.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "kvlingua/io/json.h"

namespace kvlingua {
namespace {

TEST(LossScale, FollowsTorchsGradScaler) {
  const std::string file = KVLINGUA_TEST_DATA "/trainers/loss_scale.json";
  const nlohmann::json golden = parse_json(read_text_file(file), file);
  const auto broken = golden["broken"].get<std::set<int64_t>>();
  auto kept = golden["kept"].begin();
  LossScale scale(at::kCPU);
  const at::Tensor slope = at::tensor({0.3F, -2.0F, 1e-3F});
  const at::Tensor weight = at::zeros({3}).requires_grad_(true);
  for (int64_t step = 0; step < golden["steps"]; ++step) {
    weight.mutable_grad() = at::Tensor();
    scale.scaled((weight * slope).sum()).backward();
    at::Tensor gradient = weight.grad();
    const bool breaks = broken.contains(step);
    if (breaks)
      gradient[1] = step % 2 == 1 ? std::numeric_limits<float>::infinity()
                                  : std::numeric_limits<float>::quiet_NaN();
    ASSERT_EQ(scale.unscale(gradient), !breaks) << step;
    if (kept == golden["kept"].end() || (*kept)["step"] != step) continue;
    EXPECT_EQ(scale.factor(), (*kept)["factor"].get<double>()) << step;
    EXPECT_EQ(scale.state().finite_steps, (*kept)["finite_steps"].get<int64_t>()) << step;
    EXPECT_EQ(scale.skipped(), (*kept)["skipped"].get<int64_t>()) << step;
    for (int64_t i = 0; !breaks && i < 3; ++i)
      EXPECT_EQ(gradient[i].item<float>(), (*kept)["gradient"][i].get<float>()) << step;
    ++kept;
  }
  EXPECT_EQ(kept, golden["kept"].end());
}

}  // namespace
}  // namespace kvlingua
