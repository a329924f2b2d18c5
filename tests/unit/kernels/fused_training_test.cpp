// gated_add, adamw_step and mlp_block against the plain operations they stand for.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/kernels/adamw.h"
#include "kvlingua/kernels/gated_add.h"
#include "kvlingua/kernels/mlp_block.h"

namespace kvlingua {
namespace {

GatedAdd random_gate(int64_t T, int64_t B, int64_t H, int64_t N, int64_t D) {
  const auto leaf = [](at::IntArrayRef size) { return at::randn(size).requires_grad_(true); };
  return {leaf({T, B, H, N, D}), leaf({T, B, H, N, D}),      leaf({2, T, B, N, H, D}),
          leaf({2, T, B, N, H}), at::randn({2, T, B, N, H}), leaf({2, T}),
          at::rand({T}) + .2};
}

TEST(GatedAdd, EqualsTheFormulaForwardAndBack) {
  at::manual_seed(2);
  for (const int64_t dim : {1, 4, 32, 128}) {
    const GatedAdd in = random_gate(2, 3, 2, 5, dim);
    const std::vector<at::Tensor> inputs{in.keys, in.values, in.projected, in.score, in.logit};
    const auto run = [&](auto f) {
      const auto [keys, values] = f(in);
      ((keys * keys.detach().sin()).sum() + values.square().sum()).backward();
      std::vector<at::Tensor> out{keys.detach(), values.detach()};
      for (const at::Tensor& x : inputs) {
        out.push_back(x.grad().clone());
        x.mutable_grad() = at::Tensor();
      }
      return out;
    };
    const auto expected = run(gated_add_formula), got = run(gated_add);
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_LT((got[i] - expected[i]).abs().max().item<double>(),
                2e-6 * (1 + expected[i].abs().max().item<double>()) * (i == 6 ? 10 : 1))
          << "output " << i << ", dim " << dim;
    }
  }
}

TEST(AdamW, EqualsTorchsFusedStep) {
  at::manual_seed(3);
  const int64_t n = 100'003;
  const at::Tensor w = at::randn({n}), g = at::randn({n}), m = at::randn({n}) * .1,
                   v = at::rand({n}) * .1;
  std::vector<at::Tensor> w2{w.clone()}, g2{g * .5}, m2{m.clone()}, v2{v.clone()};
  at::_fused_adamw_(w2, g2, m2, v2, {}, {at::full({}, 7.0)}, 1e-2, .9, .99, .05, 1e-8, false,
                    false);
  adamw_step(
      {.lr = 1e-2, .beta1 = .9, .beta2 = .99, .weight_decay = .05, .step = 7, .gradient_scale = .5},
      w, g, m, v);
  EXPECT_LT((w - w2[0]).abs().max().item<double>(), 1e-6);
  EXPECT_LT((m - m2[0]).abs().max().item<double>(), 1e-6);
  EXPECT_LT((v - v2[0]).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(g.abs().max().item<float>(), 0);
}

TEST(AdamW, SumOfSquares) {
  const at::Tensor x = at::randn({123'457});
  EXPECT_NEAR(sum_of_squares(x), x.to(at::kDouble).square().sum().item<double>(), 1e-2);
}

TEST(MlpBlock, DropsAboutAsManyAsAsked) {
  // With w2 the identity and a block of ones inside, what is added shows the mask.
  const int64_t width = 64, rows = 500;
  const mlp_block::Weights w{at::ones({width}), at::eye(width), at::eye(width)};
  const at::Tensor x = at::ones({rows, width});
  const at::Tensor plain = mlp_block::forward(w, x, {}, nullptr) - x;
  const at::Tensor dropped = mlp_block::forward(w, x, {.p = .1, .seed = 9}, nullptr) - x;
  const double share = (dropped == 0).to(at::kFloat).mean().item<double>();
  EXPECT_NEAR(share, .1, .01);
  EXPECT_NEAR((dropped / plain).max().item<double>(), 1 / .9, 1e-5);
  // By rows and by columns too: the counter leaves no stripes.
  EXPECT_GT((dropped == 0).to(at::kFloat).mean(0).min().item<double>(), .04);
  EXPECT_LT((dropped == 0).to(at::kFloat).mean(1).max().item<double>(), .35);
}

}  // namespace
}  // namespace kvlingua
