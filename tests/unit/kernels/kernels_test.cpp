// Every fused kernel against the same thing in plain tensor operations, forward and backward.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/kernels/dense.h"
#include "kvlingua/kernels/qkv_rope.h"
#include "kvlingua/kernels/rms_norm.h"
#include "kvlingua/kernels/silu_mul.h"

namespace kvlingua {
namespace {

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

at::Tensor plain_norm(const at::Tensor& x, const at::Tensor& w, double eps) {
  return w * (x * at::rsqrt(x.square().mean(-1, true) + eps));
}

// Gradients of sum(f * seed) with respect to inputs that require one.
template <class F>
std::vector<at::Tensor> gradients(F f, std::vector<at::Tensor> inputs) {
  for (at::Tensor& t : inputs) t = t.detach().clone().requires_grad_(true);
  const at::Tensor y = f(inputs);
  at::manual_seed(3);
  (y * at::randn_like(y)).sum().backward();
  std::vector<at::Tensor> result{y.detach()};
  for (const at::Tensor& t : inputs) result.push_back(t.grad());
  return result;
}

template <class F, class G>
void expect_same(F ours, G plain, const std::vector<at::Tensor>& inputs, double tolerance) {
  const auto a = gradients(ours, inputs), b = gradients(plain, inputs);
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LT(distance(a[i], b[i]), tolerance) << (i == 0 ? "value" : "gradient ") << i;
}

TEST(Dense, EqualsThePlainProduct) {
  at::manual_seed(0);
  for (const auto& [rows, in, out] : {std::tuple{1, 5, 3}, {7, 33, 17}, {40, 64, 96}}) {
    const std::vector<at::Tensor> inputs{at::randn({2, rows, in}), at::randn({out, in}),
                                         at::randn({out})};
    expect_same([](const auto& t) { return dense(t[0], t[1], t[2]); },
                [](const auto& t) { return at::matmul(t[0], t[1].t()) + t[2]; }, inputs, 1e-3);
    expect_same([](const auto& t) { return dense(t[0], t[1]); },
                [](const auto& t) { return at::matmul(t[0], t[1].t()); }, {inputs[0], inputs[1]},
                1e-3);
  }
}

TEST(Dense, HalfTypesKeepTheirType) {
  const at::Tensor x = at::randn({3, 8}), w = at::randn({4, 8});
  const at::Tensor y = dense(x.to(at::kBFloat16), w.to(at::kBFloat16));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_LT(distance(y.to(at::kFloat), at::matmul(x, w.t())), 0.2);
}

TEST(RmsNorm, EqualsTheFormula) {
  at::manual_seed(1);
  for (const int64_t width : {1, 3, 16, 64, 100}) {
    expect_same([](const auto& t) { return rms_norm(t[0], t[1], 1e-6); },
                [](const auto& t) { return plain_norm(t[0], t[1], 1e-6); },
                {at::randn({2, 5, width}), at::randn({width})}, 2e-5);
  }
  const at::Tensor x = at::randn({4, 6}).t(), w = at::randn({4});
  EXPECT_LT(distance(rms_norm(x, w, 1e-5), plain_norm(x, w, 1e-5)), 1e-6) << "a transposed input";
}

TEST(RmsNorm, RoundsHalfTypesBeforeTheWeight) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({5, 32}).to(at::kBFloat16), w = at::randn({32}).to(at::kBFloat16);
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor expected =
      w * (wide * at::rsqrt(wide.square().mean(-1, true) + 1e-6)).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(rms_norm(x, w, 1e-6), expected));
}

TEST(RmsNorm, AddsTheResidualFirst) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({9, 48}), delta = at::randn({9, 48}), w = at::randn({48});
  const at::Tensor sum = x + delta;
  const at::Tensor residual = x.clone();
  EXPECT_LT(distance(add_rms_norm_(residual, delta, w, 1e-6), plain_norm(sum, w, 1e-6)), 1e-6);
  EXPECT_TRUE(at::equal(residual, sum));
}

TEST(SiluMul, EqualsTheFormula) {
  at::manual_seed(5);
  const auto plain = [](const auto& t) {
    const auto halves = t[0].chunk(2, -1);
    return at::silu(halves[0]) * halves[1];
  };
  for (const int64_t width : {1, 7, 32, 65}) {
    expect_same([](const auto& t) { return silu_mul(t[0]); }, plain,
                {at::randn({3, 4, 2 * width}) * 5}, 2e-5);
  }
  const at::Tensor extreme =
      at::tensor({-1e4f, -100.f, -0.f, 100.f, 1e4f, 1.f, 1.f, 1.f, 1.f, 1.f});
  EXPECT_LT(distance(silu_mul(extreme), plain(std::vector{extreme})), 1e-3) << silu_mul(extreme);
}

TEST(QkvRope, EqualsSplitNormRotate) {
  at::manual_seed(6);
  const int64_t B = 3, T = 5, Hq = 4, Hk = 2, D = 12;
  for (const bool normed : {false, true}) {
    for (const bool shared : {false, true}) {
      const at::Tensor qkv = at::randn({B, T, (Hq + 2 * Hk) * D});
      const at::Tensor angle = at::randn({shared ? 1 : B, T, D / 2});
      QkvRope rope{angle.cos(), angle.sin(), {}, {}, 1e-6};
      if (normed) rope.q_norm = at::randn({D}), rope.k_norm = at::randn({D});
      const at::Tensor q = at::empty({B, Hq, T, D});
      // Keys and values go into the middle of a longer cache.
      const at::Tensor keys = at::zeros({B, Hk, T + 4, D}), values = at::zeros({B, Hk, T + 4, D});
      split_qkv_rope(qkv, rope, q, keys.narrow(2, 3, T), values.narrow(2, 3, T));
      const auto expected = [&](int64_t from, int64_t heads, const at::Tensor& norm) {
        at::Tensor x = qkv.narrow(2, from * D, heads * D).reshape({B, T, heads, D});
        if (norm.defined()) x = plain_norm(x, norm, 1e-6);
        x = x.transpose(1, 2);
        const at::Tensor a = x.narrow(3, 0, D / 2), b = x.narrow(3, D / 2, D / 2);
        const at::Tensor c = rope.cos.unsqueeze(1), s = rope.sin.unsqueeze(1);
        return at::cat({a * c - b * s, b * c + a * s}, -1);
      };
      EXPECT_LT(distance(q, expected(0, Hq, rope.q_norm)), 2e-6);
      EXPECT_LT(distance(keys.narrow(2, 3, T), expected(Hq, Hk, rope.k_norm)), 2e-6);
      EXPECT_TRUE(
          at::equal(values.narrow(2, 3, T),
                    qkv.narrow(2, (Hq + Hk) * D, Hk * D).reshape({B, T, Hk, D}).transpose(1, 2)));
      EXPECT_EQ(keys.narrow(2, 0, 3).abs().sum().item<float>(), 0.f);
      // The plain path serves other types; it must agree with the kernel.
      const at::Tensor q64 = at::empty_like(q, at::kDouble),
                       k64 = at::empty({B, Hk, T, D}, at::kDouble), v64 = at::empty_like(k64);
      QkvRope wide = rope;
      if (normed)
        wide.q_norm = rope.q_norm.to(at::kDouble), wide.k_norm = rope.k_norm.to(at::kDouble);
      split_qkv_rope(qkv.to(at::kDouble), wide, q64, k64, v64);
      EXPECT_LT(distance(q64, q), 2e-6);
      EXPECT_LT(distance(k64, keys.narrow(2, 3, T)), 2e-6);
    }
  }
}

TEST(QkvRope, QueriesOrKeysAlone) {
  at::manual_seed(7);
  const at::Tensor qkv = at::randn({2, 3, 6 * 4}), angle = at::randn({2, 3, 2});
  const QkvRope rope{angle.cos(), angle.sin(), {}, {}, 1e-6};
  const at::Tensor q = at::empty({2, 2, 3, 4}), k = at::empty({2, 2, 3, 4}),
                   v = at::empty({2, 2, 3, 4});
  split_qkv_rope(qkv, rope, q, k, v);
  const at::Tensor q1 = at::empty_like(q), k1 = at::empty_like(k), v1 = at::empty_like(v);
  split_qkv_rope(qkv.narrow(2, 0, 8).contiguous(), rope, q1, {}, {});
  split_qkv_rope(qkv.narrow(2, 8, 16).contiguous(), rope, {}, k1, v1);
  EXPECT_TRUE(at::equal(q, q1) && at::equal(k, k1) && at::equal(v, v1));
}

}  // namespace
}  // namespace kvlingua
