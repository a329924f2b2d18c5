// Which attention kernel is taken where, and that every form of it computes the formula.
#include "kvlingua/kernels/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace kvlingua {
namespace {

using enum AttentionKernel;

struct Row {
  const char* what;
  AttentionCase in;
  AttentionPlan out;
};

// Qwen2.5-0.5B's heads unless said.
AttentionCase on_card(int64_t capability, at::ScalarType dtype, int64_t tokens, bool masked,
                      int64_t heads = 14, int64_t kv_heads = 2, int64_t head_dim = 64) {
  return {true, capability, dtype, heads, kv_heads, head_dim, tokens, masked};
}

TEST(AttentionPlan, Table) {
  const Row rows[] = {
      {"CPU, a prompt", {.heads = 14, .kv_heads = 2, .tokens = 9}, {kLibrary, false, false}},
      {"CPU, one token", {.heads = 14, .kv_heads = 2}, {kLibrary, true, false}},
      {"H100, a prompt", on_card(90, at::kBFloat16, 512, false), {kFlash, false, false}},
      {"H100, behind a past", on_card(90, at::kBFloat16, 512, true), {kEfficient, false, true}},
      {"H100, one token", on_card(90, at::kBFloat16, 1, false), {kFlash, false, false}},
      {"H100, one token, padded", on_card(90, at::kBFloat16, 1, true), {kEfficient, true, false}},
      {"H100, float32", on_card(90, at::kFloat, 512, false), {kEfficient, false, true}},
      {"H100, float32, one token", on_card(90, at::kFloat, 1, false), {kEfficient, true, false}},
      {"H100, as many key heads",
       on_card(90, at::kBFloat16, 512, true, 8, 8),
       {kEfficient, false, false}},
      {"H100, wide heads",
       on_card(90, at::kBFloat16, 512, false, 8, 2, 512),
       {kEfficient, false, true}},
      {"H100, odd heads",
       on_card(90, at::kBFloat16, 512, false, 8, 2, 12),
       {kFormula, false, true}},
      {"H100, float64", on_card(90, at::kDouble, 512, true), {kFormula, false, true}},
      {"A100", on_card(80, at::kHalf, 512, false), {kFlash, false, false}},
      {"GTX 1660, float16", on_card(75, at::kHalf, 512, false), {kEfficient, false, true}},
      {"GTX 1660, float32", on_card(75, at::kFloat, 512, true), {kEfficient, false, true}},
      {"GTX 1660 has no bfloat16", on_card(75, at::kBFloat16, 512, true), {kFormula, false, true}},
  };
  for (const Row& row : rows) EXPECT_EQ(plan_attention(row.in), row.out) << row.what;
}

at::Tensor formula(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                   const at::Tensor& mask, bool causal) {
  const int64_t group = q.size(1) / k.size(1), tokens = q.size(2), keys = k.size(2);
  const at::Tensor wide_k = k.repeat_interleave(group, 1), wide_v = v.repeat_interleave(group, 1);
  at::Tensor scores =
      at::matmul(q, wide_k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  if (mask.defined()) scores = scores + mask;
  if (causal) scores.masked_fill_(at::ones({tokens, keys}, at::kBool).triu(1), -INFINITY);
  return at::matmul(at::softmax(scores, -1), wide_v)
      .transpose(1, 2)
      .reshape({q.size(0), tokens, -1});
}

TEST(Attention, EqualsTheFormula) {
  at::manual_seed(1);
  for (const int64_t tokens : {1, 5})
    for (const bool masked : {false, true}) {
      const int64_t keys = 7;
      const at::Tensor q = at::randn({2, 6, tokens, 8}), k = at::randn({2, 2, keys, 8}),
                       v = at::randn({2, 2, keys, 8});
      at::Tensor mask;
      if (masked) {
        mask = at::zeros({2, 1, tokens, keys});
        mask.select(0, 1).narrow(2, 0, 2).fill_(-INFINITY);
      }
      EXPECT_TRUE(
          at::allclose(attention(q, k, v, mask, false), formula(q, k, v, mask, false), 1e-5, 1e-6))
          << tokens << " tokens, masked " << masked;
    }
  const at::Tensor q = at::randn({2, 6, 5, 8}), k = at::randn({2, 2, 5, 8}),
                   v = at::randn({2, 2, 5, 8});
  EXPECT_TRUE(at::allclose(attention(q, k, v, {}, true), formula(q, k, v, {}, true), 1e-5, 1e-6));
}

}  // namespace
}  // namespace kvlingua
