// The hand-written towers against the plain batched operations, forward and back.
#include "kvlingua/projector/c2c_tower.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <functional>
#include <vector>

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

// Gradients of all weights and of x, after ones in the weights' where they are added in place.
std::vector<at::Tensor> gradients_of(const TowerStack& s, const at::Tensor& x, bool in_place,
                                     const std::function<TowerOutput(const at::Tensor&)>& run) {
  const at::Tensor leaf = x.detach().clone().requires_grad_(true);
  for (at::Tensor w : leaves(s)) w.mutable_grad() = in_place ? at::ones_like(w) : at::Tensor();
  at::manual_seed(7);
  const TowerOutput out = run(leaf);
  const at::Tensor after = at::rand({1});  // what the way back draws again shifts nothing
  loss_of(out).backward();
  std::vector<at::Tensor> all{out.projected.detach(), after, at::rand({1}), leaf.grad()};
  if (out.score.defined()) all.push_back(out.score.detach());
  for (const at::Tensor& w : leaves(s)) all.push_back(w.grad().clone());
  return all;
}

void expect_same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

TEST(C2cTower, RecomputedItGivesTheSameBits) {
  for (const bool scored : {true, false}) {
    for (const bool in_place : {true, false}) {
      const TowerStack s = random_stack(scored);
      const at::Tensor x = at::randn({kTowers, kRows, kIn});
      const auto run = [&](bool recompute) {
        return gradients_of(s, x, in_place,
                            [&](const at::Tensor& in) { return run_towers(s, in, .3, recompute); });
      };
      expect_same_bits(run(true), run(false));
    }
  }
}

// The form for other devices and types: without dropout it is the formula, with it the formula
// group by group.
TEST(C2cTower, RecomputedInGroupsItIsTheFormula) {
  for (const double dropout : {0.0, .3}) {
    for (const bool scored : {true, false}) {
      for (const bool in_place : {true, false}) {
        const TowerStack s = random_stack(scored);
        const at::Tensor x = at::randn({kTowers, kRows, kIn});
        const auto got = gradients_of(s, x, in_place, [&](const at::Tensor& in) {
          return run_towers_in_groups(s, in, dropout);
        });
        const auto expected = gradients_of(s, x, in_place, [&](const at::Tensor& in) {
          TowerOutput all;
          std::vector<at::Tensor> projected, score;
          for (int64_t g = 0; g < kTowers; ++g) {  // fewer towers than groups: one each
            TowerStack one = s;
            const auto part = [&](at::Tensor& w) {
              if (w.defined()) w = w.narrow(0, g, 1);
            };
            for (at::Tensor* w : {&one.in_weight, &one.in_bias, &one.out_weight, &one.out_bias,
                                  &one.scalar_weight, &one.scalar_bias})
              part(*w);
            for (TowerBlock* b :
                 {&one.common, &one.scalar, &one.projection[0], &one.projection[1]}) {
              part(b->norm), part(b->w1), part(b->w2);
            }
            const TowerOutput out = run_towers_formula(one, in.narrow(0, g, 1), dropout);
            projected.push_back(out.projected);
            if (scored) score.push_back(out.score);
          }
          all.projected = at::cat(projected);
          if (scored) all.score = at::cat(score);
          return all;
        });
        ASSERT_EQ(got.size(), expected.size());
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_LT(apart(got[i], expected[i]), 1e-6 * (1 + expected[i].abs().max().item<double>()))
              << i << " dropout " << dropout;
      }
    }
  }
}

double bytes_in_use() {
  const struct mallinfo2 heap = ::mallinfo2();
  return static_cast<double>(heap.uordblks + heap.hblkhd);
}

// Bytes that wait for the way back, beside inputs and outputs.
TEST(C2cTower, RecomputedItKeepsItsInputsAlone) {
  const double at_first = bytes_in_use();
  const at::Tensor seen = at::empty({1 << 20});
  if (bytes_in_use() == at_first) GTEST_SKIP() << "a sanitizer's allocator counts nothing";
  const TowerStack s = random_stack(true);
  const at::Tensor x = at::randn({kTowers, 4096, kIn}).requires_grad_(true);
  const auto waiting = [&](const std::function<TowerOutput()>& run) {
    const double before = bytes_in_use();
    const TowerOutput out = run();
    return bytes_in_use() - before -
           static_cast<double>(out.projected.nbytes() + out.score.nbytes());
  };
  const double one = 4.0 * kTowers * 4096 * kHidden;  // one activation of all towers
  for (const bool by_hand : {true, false}) {
    const double kept =
        waiting([&] { return by_hand ? run_towers(s, x, 0) : run_towers_formula(s, x, 0); });
    const double recomputed = waiting(
        [&] { return by_hand ? run_towers(s, x, 0, true) : run_towers_in_groups(s, x, 0); });
    EXPECT_GT(kept, 4 * one) << by_hand;
    EXPECT_LT(recomputed, one / 2) << by_hand;
  }
}

}  // namespace
}  // namespace kvlingua
