#include "trainers/nano_lm/lm_optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "trainers/nano_lm/lm_trainer.h"

namespace kvlingua {
namespace {

at::Tensor random(at::IntArrayRef shape, int64_t seed) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn(shape);
}

TEST(NewtonSchulz, MakesMatricesNearlyOrthogonal) {
  for (const auto& shape : {std::vector<int64_t>{3, 40, 24}, {3, 24, 40}, {1, 32, 32}}) {
    const at::Tensor x = newton_schulz(random(shape, 1));
    const at::Tensor singular = std::get<1>(at::linalg_svd(x, false));
    EXPECT_LT(singular.max().item<double>(), 1.3);
    EXPECT_GT(singular.median().item<double>(), .6);
  }
}

// Orthogonalisation keeps singular vectors: U f(S) V', so the product with U V' is symmetric.
TEST(NewtonSchulz, KeepsTheSingularVectors) {
  const at::Tensor g = random({20, 20}, 2);
  const auto [u, s, v] = at::linalg_svd(g);
  const at::Tensor inner = u.t().matmul(newton_schulz(g)).matmul(v.t());
  const at::Tensor off_diagonal = inner - at::diag(inner.diagonal());
  EXPECT_LT(off_diagonal.abs().max().item<double>(), 1e-4);
}

struct Problem {
  NamedTensors parameters;
  Problem() {
    parameters = {{"layer.0.mlp.up_proj.weight", random({12, 8}, 3)},
                  {"layer.1.mlp.up_proj.weight", random({12, 8}, 4)},
                  {"layer.0.mlp.down_proj.weight", random({8, 12}, 5)},
                  {"embed_tokens.weight", random({30, 8}, 6)},
                  {"norm.weight", at::ones({8})}};
    for (auto& [name, tensor] : parameters) tensor.set_requires_grad(true);
  }
  double step(LmOptimizer& optimizer, double lr) {
    at::Tensor loss = at::zeros({});
    for (auto& [name, tensor] : parameters) loss = loss + tensor.pow(2).sum();
    loss.backward();
    optimizer.step(lr, lr);
    return loss.item<double>();
  }
};

TEST(LmOptimizer, FallsOnAQuadratic) {
  Problem problem;
  LmOptimizer optimizer(problem.parameters, {});
  const double first = problem.step(optimizer, .02);
  double last = first;
  for (int i = 0; i < 200; ++i) last = problem.step(optimizer, .02);
  EXPECT_LT(last, .1 * first);
  EXPECT_FALSE(problem.parameters[0].second.grad().defined()) << "gradients are cleared";
}

TEST(LmOptimizer, AdamwIsTheTextbooks) {
  NamedTensors one = {{"norm.weight", at::full({1}, 2.0)}};
  one[0].second.set_requires_grad(true);
  LmOptimizer optimizer(one, {.beta1 = .9, .beta2 = .98});
  double value = 2, first = 0, second = 0;
  for (int t = 1; t <= 5; ++t) {
    const double gradient = 3 * value * value;
    one[0].second.pow(3).sum().backward();
    optimizer.step(.1, .1);
    first = .9 * first + .1 * gradient;
    second = .98 * second + .02 * gradient * gradient;
    value -=
        .1 * (first / (1 - std::pow(.9, t))) / (std::sqrt(second / (1 - std::pow(.98, t))) + 1e-8);
    EXPECT_NEAR(one[0].second.item<double>(), value, 1e-5);
  }
}

TEST(LmOptimizer, ContinuesFromItsState) {
  Problem straight, first, second;
  LmOptimizer a(straight.parameters, {}), b(first.parameters, {});
  for (int i = 0; i < 6; ++i) straight.step(a, .02);
  for (int i = 0; i < 3; ++i) first.step(b, .02);
  {
    c10::NoGradGuard no_grad;
    for (size_t i = 0; i < first.parameters.size(); ++i) {
      second.parameters[i].second.copy_(first.parameters[i].second);
    }
  }
  LmOptimizer c(second.parameters, {});
  c.load(b.state());
  for (int i = 0; i < 3; ++i) second.step(c, .02);
  for (size_t i = 0; i < straight.parameters.size(); ++i) {
    EXPECT_TRUE(at::equal(straight.parameters[i].second, second.parameters[i].second));
  }
  NamedTensors other = {{"norm.weight", at::ones({8})}};
  EXPECT_THROW(c.load(other), Error);
}

TEST(LmSchedule, WarmsUpStaysAndFalls) {
  LmTrainOptions options;
  options.steps = 1000;
  options.warmup_steps = 100;
  EXPECT_NEAR(lm_learning_rate(options, 0), .01, 1e-9);
  EXPECT_EQ(lm_learning_rate(options, 99), 1);
  EXPECT_EQ(lm_learning_rate(options, 600), 1);
  EXPECT_NEAR(lm_learning_rate(options, 800), .51, 1e-9);
  EXPECT_NEAR(lm_learning_rate(options, 1000), .02, 1e-9);
}

}  // namespace
}  // namespace kvlingua
