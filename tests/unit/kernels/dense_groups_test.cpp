// Products of many small groups at once: equal to one product after the other, in every shape.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/kernels/dense.h"

namespace kvlingua {
namespace {

struct Sizes {
  int64_t groups, rows, in, out;
};

class DenseGroups : public testing::TestWithParam<Sizes> {};

// Against at::bmm: the product, and both gradients, the weight's added to what was there.
TEST_P(DenseGroups, EqualsBatchedProducts) {
  const Sizes s = GetParam();
  at::manual_seed(3);
  const at::Tensor x = at::randn({s.groups, s.rows, s.in}).requires_grad_(true);
  const at::Tensor w = at::randn({s.groups, s.in, s.out}).requires_grad_(true);
  const at::Tensor weighting = at::randn({s.groups, s.rows, s.out});
  (at::bmm(x, w) * weighting).sum().backward();
  const at::Tensor expected = at::bmm(x, w).detach(), dx = x.grad().clone(), dw = w.grad().clone();
  x.mutable_grad() = at::Tensor();
  for (const double times : {2.0, 3.0}) {  // the first finds at::bmm's gradient of the weight there
    const at::Tensor got = dense_groups(x, w);
    EXPECT_LT((got - expected).abs().max().item<double>(), 1e-5 * static_cast<double>(s.in));
    (got * weighting).sum().backward();
    EXPECT_TRUE(at::allclose(w.grad(), times * dw, 1e-4, 1e-3));
  }
  EXPECT_TRUE(at::allclose(x.grad(), 2 * dx, 1e-4, 1e-3));
  w.mutable_grad() = at::Tensor();
  (dense_groups(x, w) * weighting).sum().backward();
  EXPECT_TRUE(at::allclose(w.grad(), dw, 1e-4, 1e-3));
}

// Rows of other tensors: what is read need not be contiguous.
TEST_P(DenseGroups, ReadsTransposedOperands) {
  const Sizes s = GetParam();
  const at::Tensor x = at::randn({s.rows, s.groups, s.in}).transpose(0, 1);
  const at::Tensor w = at::randn({s.groups, s.out, s.in}).transpose(1, 2);
  EXPECT_LT((dense_groups(x, w) - at::bmm(x, w)).abs().max().item<double>(),
            1e-5 * static_cast<double>(s.in));
}

INSTANTIATE_TEST_SUITE_P(Sizes, DenseGroups,
                         testing::Values(Sizes{1, 1, 1, 1}, Sizes{3, 7, 5, 4},
                                         Sizes{2, 33, 48, 2100}, Sizes{40, 3, 6, 5}));

}  // namespace
}  // namespace kvlingua
