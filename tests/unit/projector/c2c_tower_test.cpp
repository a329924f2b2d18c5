// The hand-written towers against the plain batched operations, forward and back.
#include "kvlingua/projector/c2c_tower.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

namespace kvlingua {
namespace {

constexpr int64_t kTowers = 3, kRows = 7, kIn = 10, kHidden = 20, kInner = 12, kHeads = 2, kOut = 8;

TowerStack random_stack(bool scored) {
  at::manual_seed(4);
  const auto leaf = [](at::IntArrayRef size) {
    return (at::randn(size) * .3).requires_grad_(true);
  };
  const auto block = [&] {
    return TowerBlock{leaf({kTowers, kHidden}), leaf({kTowers, kInner, kHidden}),
                      leaf({kTowers, kHidden, kInner})};
  };
  TowerStack s;
  s.in_weight = leaf({kTowers, kHidden, kIn});
  s.in_bias = leaf({kTowers, kHidden});
  s.common = block();
  if (scored) {
    s.scalar = block();
    s.scalar_weight = leaf({kTowers, kHeads, kHidden});
    s.scalar_bias = leaf({kTowers, kHeads});
  }
  s.projection = {block(), block()};
  s.out_weight = leaf({kTowers, kOut, kHidden});
  s.out_bias = leaf({kTowers, kOut});
  return s;
}

std::vector<at::Tensor> leaves(const TowerStack& s) {
  std::vector<at::Tensor> all{s.in_weight, s.in_bias, s.out_weight, s.out_bias};
  if (s.scalar_weight.defined())
    all.insert(all.end(),
               {s.scalar_weight, s.scalar_bias, s.scalar.norm, s.scalar.w1, s.scalar.w2});
  for (const TowerBlock* b : {&s.common, &s.projection[0], &s.projection[1]})
    all.insert(all.end(), {b->norm, b->w1, b->w2});
  return all;
}

double apart(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

at::Tensor loss_of(const TowerOutput& out) {
  at::Tensor loss = (out.projected * out.projected.cumsum(1).detach().sin()).sum();
  if (out.score.defined()) loss = loss + out.score.square().sum();
  return loss;
}

TEST(C2cTower, EqualsTheFormulaForwardAndBack) {
  for (const bool scored : {true, false}) {
    for (const bool in_place : {true, false}) {
      const TowerStack s = random_stack(scored);
      const at::Tensor x = at::randn({kTowers, kRows, kIn}).requires_grad_(true);
      const TowerOutput expected = run_towers_formula(s, x, 0);
      loss_of(expected).backward();
      std::vector<at::Tensor> gradients;
      for (at::Tensor w : leaves(s)) {
        gradients.push_back(w.grad().clone());
        w.mutable_grad() = in_place ? at::ones_like(w) : at::Tensor();
      }
      const at::Tensor dx = x.grad().clone();
      x.mutable_grad() = at::Tensor();
      const TowerOutput got = run_towers(s, x, 0);
      EXPECT_LT(apart(got.projected, expected.projected), 2e-5);
      EXPECT_EQ(got.score.defined(), scored);
      if (scored) {
        EXPECT_LT(apart(got.score, expected.score), 2e-5);
      }
      loss_of(got).backward();
      const auto all = leaves(s);
      for (size_t i = 0; i < all.size(); ++i) {
        // Gradients add to what is there.
        const at::Tensor g = in_place ? all[i].grad() - 1 : all[i].grad();
        EXPECT_LT(apart(g, gradients[i]), 1e-4 * (1 + gradients[i].abs().max().item<double>()))
            << i;
      }
      EXPECT_LT(apart(x.grad(), dx), 1e-4 * dx.abs().max().item<double>());
    }
  }
}

// Dropout: each seed gives one mask, the way back uses the same one (by finite differences), and
// about p of what a block adds is dropped.
TEST(C2cTower, DropoutIsDrawnFromTheGeneratorAndTheSameGoingBack) {
  const TowerStack s = random_stack(true);
  const at::Tensor x = at::randn({kTowers, kRows, kIn});
  const auto run = [&](uint64_t seed) {
    at::manual_seed(seed);
    return run_towers(s, x, .3);
  };
  EXPECT_TRUE(at::equal(run(1).projected, run(1).projected));
  EXPECT_FALSE(at::equal(run(1).projected, run(2).projected));
  loss_of({run(1).projected, {}}).backward();
  const at::Tensor weight = s.common.w2;
  const double slope = weight.grad()[1][2][3].item<double>();
  const auto moved = [&](double by) {
    const c10::NoGradGuard no_grad;
    weight[1][2][3] += by;
    const at::Tensor fixed = run(1).projected;
    weight[1][2][3] -= by;
    return fixed.to(at::kDouble);
  };
  const double step = 1e-3;
  const at::Tensor at_zero = run(1).projected.detach();
  const at::Tensor direction = at_zero.cumsum(1).sin().to(at::kDouble);
  const double expected =
      (((moved(step) - moved(-step)) * direction).sum() / (2 * step)).item<double>();
  EXPECT_NEAR(slope, expected, 2e-2 * std::abs(expected) + 2e-3);
}

}  // namespace
}  // namespace kvlingua
