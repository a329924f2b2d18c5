// Rows out of a cache, centring and mixed-precision sums, against plain tensor operations.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "kvlingua/kernels/accumulate.h"
#include "kvlingua/kernels/cache_rows.h"

namespace kvlingua {
namespace {

at::Tensor expected_rows(const at::Tensor& x, const at::Tensor& index, const at::Tensor& cos,
                         const at::Tensor& sin) {
  const int64_t L = x.size(0), H = x.size(2), D = x.size(4);
  at::Tensor rows = x.permute({1, 3, 0, 2, 4}).reshape({-1, L, H, D}).index_select(0, index);
  if (!cos.defined()) return rows;
  const at::Tensor a = rows.narrow(-1, 0, D / 2), b = rows.narrow(-1, D / 2, D / 2);
  const at::Tensor c = cos.view({-1, 1, 1, D / 2}), s = sin.view({-1, 1, 1, D / 2});
  return at::cat({a * c - b * s, b * c + a * s}, -1);
}

TEST(CacheRows, AreThePlainOperationsBitForBit) {
  at::manual_seed(1);
  // Inner dimensions that do and do not fill vectors; a cache that is a slice of a longer one.
  for (const int64_t dim : {2, 6, 16, 64, 128}) {
    const at::Tensor x = at::randn({3, 4, 2, 9, dim}).narrow(3, 1, 7);
    const at::Tensor index = at::randint(0, 4 * 7, {71}, at::kLong);
    const at::Tensor angle = at::randn({71, dim / 2});
    const at::Tensor cos = angle.cos(), sin = angle.sin();
    for (const bool turned : {false, true}) {
      const at::Tensor c = turned ? cos : at::Tensor(), s = turned ? sin : at::Tensor();
      const at::Tensor want = expected_rows(x, index, c, s);
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        const at::Tensor got = cache_rows(x, index, c, s, type);
        EXPECT_TRUE(got.is_contiguous());
        EXPECT_TRUE(at::equal(got, want.to(type))) << dim << " " << turned << " " << type;
      }
      const at::Tensor wide = cache_rows(x.to(at::kBFloat16), index, c, s, at::kFloat);
      EXPECT_TRUE(at::equal(wide, expected_rows(x.to(at::kBFloat16).to(at::kFloat), index, c, s)));
    }
  }
}

TEST(CacheRows, KeepNaNAndInfinity) {
  at::Tensor x = at::zeros({1, 1, 1, 2, 4});
  x[0][0][0][0][1] = std::numeric_limits<float>::quiet_NaN();
  x[0][0][0][1][2] = std::numeric_limits<float>::infinity();
  x[0][0][0][1][3] = 3.4e38;  // rounds to infinity
  const at::Tensor got = cache_rows(x, at::arange(2), {}, {}, at::kBFloat16).to(at::kFloat);
  EXPECT_TRUE(std::isnan(got[0][0][0][1].item<float>()));
  EXPECT_TRUE(std::isinf(got[1][0][0][2].item<float>()));
  EXPECT_TRUE(std::isinf(got[1][0][0][3].item<float>()));
  EXPECT_EQ(got[0][0][0][0].item<float>(), 0);
}

TEST(Accumulate, MeansCentresAndSums) {
  at::manual_seed(2);
  for (const auto& [rows, columns] : {std::pair{1, 1}, {31, 5}, {33, 512}, {100, 1300}}) {
    // A strip of a wider matrix, far from zero.
    const at::Tensor x = (at::randn({rows, columns + 7}) + 50).narrow(1, 3, columns);
    const at::Tensor exact = x.to(at::kDouble).mean(0), mean = column_means(x);
    EXPECT_LT((mean - exact).abs().max().item<double>(), 1e-4);
    const at::Tensor out = at::empty({rows, columns + 2}).narrow(1, 1, columns);
    const at::Tensor square = at::ones({columns}, at::kDouble);
    centre_columns(x, mean, out, square);
    EXPECT_TRUE(at::equal(out, x - mean.to(at::kFloat)));
    const at::Tensor want = out.to(at::kDouble).square().sum(0) + 1;
    EXPECT_LT(((square - want) / want).abs().max().item<double>(), 1e-6);
    const at::Tensor sum = at::randn({rows, columns + 4}, at::kDouble).narrow(1, 2, columns);
    const at::Tensor before = sum.clone();
    add_to_double(sum, out);
    EXPECT_TRUE(at::equal(sum, before + out.to(at::kDouble)));
  }
}

}  // namespace
}  // namespace kvlingua
