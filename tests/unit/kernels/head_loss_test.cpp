// Losses in pieces of the vocabulary equal the usual ones over whole logits, with their gradients.
#include "kvlingua/kernels/head_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace kvlingua {
namespace {

struct Problem {
  at::Tensor rows, teacher, head, answers, weights;
  explicit Problem(at::ScalarType type) {
    at::manual_seed(3);
    rows = at::randn({11, 6}, type).requires_grad_(true);
    teacher = at::randn({11, 6}, type);
    head = at::randn({29, 6}, type);
    answers = at::randint(29, {11}, at::kLong);
    weights = at::rand({11}, at::kFloat);
  }
  HeadLoss what(int64_t rows_at_once) const {
    return {.weight_VC = head,
            .answers_N = answers,
            .weights_N = weights,
            .teacher_NC = teacher,
            .temperature = 1.5,
            .rows_at_once = rows_at_once};
  }
};

at::Tensor whole(const Problem& p, const at::Tensor& rows) {
  const at::Tensor logits = at::linear(rows, p.head), weights = p.weights.to(rows.scalar_type());
  const at::Tensor ce =
      -(at::log_softmax(logits, 1).gather(1, p.answers.unsqueeze(1)).squeeze(1) * weights).sum();
  const at::Tensor student = at::log_softmax(logits / 1.5, 1),
                   teacher = at::log_softmax(at::linear(p.teacher, p.head) / 1.5, 1);
  const at::Tensor kl =
      ((teacher.exp() * (teacher - student)).sum(1) * weights).sum() * (1.5 * 1.5);
  return ce * 0.7 + kl * 1.3;
}

TEST(HeadLoss, PiecesEqualTheWhole) {
  const Problem p(at::kFloat);
  const at::Tensor expected = whole(p, p.rows);
  expected.backward();
  const at::Tensor gradient = p.rows.grad().clone();
  for (const int64_t step : {1, 7, 11, 0}) {
    p.rows.mutable_grad().reset();
    const HeadLosses losses = head_loss(p.rows, p.what(step));
    const at::Tensor loss = losses.cross_entropy * 0.7 + losses.kl * 1.3;
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-4) << step;
    loss.backward();
    EXPECT_TRUE(at::allclose(p.rows.grad(), gradient, 1e-4, 1e-5)) << step;
  }
}

TEST(HeadLoss, GradientIsTheFiniteDifference) {
  const Problem p(at::kDouble);
  const auto loss_at = [&](const at::Tensor& rows) {
    const HeadLosses losses = head_loss(rows, p.what(4));
    return losses.cross_entropy * 0.7 + losses.kl * 1.3;
  };
  loss_at(p.rows).backward();
  const double step = 1e-5;
  for (int64_t i = 0; i < p.rows.numel(); i += 5) {
    at::Tensor up = p.rows.detach().clone(), down = up.clone();
    up.view({-1})[i] += step;
    down.view({-1})[i] -= step;
    const double slope = (loss_at(up) - loss_at(down)).item<double>() / (2 * step);
    EXPECT_NEAR(p.rows.grad().view({-1})[i].item<double>(), slope, 1e-6) << i;
  }
}

TEST(HeadLoss, WithoutAGradientAndWithOneLossAlone) {
  const Problem p(at::kFloat);
  HeadLoss what = p.what(5);
  what.teacher_NC.reset();
  what.weights_N.reset();
  const HeadLosses losses = head_loss(p.rows.detach(), what);
  EXPECT_FALSE(losses.kl.defined());
  const at::Tensor expected = at::cross_entropy_loss(at::linear(p.rows.detach(), p.head), p.answers,
                                                     {}, at::Reduction::Sum);
  EXPECT_NEAR(losses.cross_entropy.item<double>(), expected.item<double>(), 1e-4);
}

}  // namespace
}  // namespace kvlingua
