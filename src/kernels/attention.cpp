#include "kvlingua/kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#ifdef KVLINGUA_CUDA
#include <ATen/cuda/CUDAContextLight.h>
#endif

#include <optional>

namespace kvlingua {
namespace {

int64_t capability_of([[maybe_unused]] const at::Tensor& t) {
#ifdef KVLINGUA_CUDA
  const auto* properties = at::cuda::getDeviceProperties(t.device().index());
  return 10 * properties->major + properties->minor;
#else
  return 0;
#endif
}

bool is_half(at::ScalarType dtype) { return dtype == at::kHalf || dtype == at::kBFloat16; }

// [B, H, S, D] -> [B, Hq, S, D]: query head h reads key head h / (Hq / H).
at::Tensor repeated(const at::Tensor& t, int64_t heads) {
  const int64_t rows = t.size(0), kv_heads = t.size(1), tokens = t.size(2), dim = t.size(3);
  return t.unsqueeze(2)
      .expand({rows, kv_heads, heads / kv_heads, tokens, dim})
      .reshape({rows, heads, tokens, dim});
}

// The kernel wants every row of the mask to begin at a multiple of 8 elements.
at::Tensor aligned(const at::Tensor& mask) {
  bool fits = mask.stride(-1) == 1;
  for (int64_t d = 0; d + 1 < mask.dim(); ++d)
    fits = fits && (mask.size(d) == 1 || mask.stride(d) % 8 == 0);
  if (fits) return mask;
  const int64_t keys = mask.size(-1),
                width = (keys + kMaskAlignment - 1) / kMaskAlignment * kMaskAlignment;
  auto size = mask.sizes().vec();
  size.back() = width;
  const at::Tensor wide = at::empty(size, mask.options()).narrow(-1, 0, keys);
  wide.copy_(mask);
  return wide;
}

at::Tensor efficient(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, bool causal) {
  std::optional<at::Tensor> bias;
  if (mask.defined()) bias = aligned(mask).expand({q.size(0), q.size(1), q.size(2), k.size(2)});
  const bool backward =
      at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return std::get<0>(
      at::_scaled_dot_product_efficient_attention(q, k, v, bias, backward, 0.0, causal));
}

at::Tensor run(const AttentionPlan& plan, const at::Tensor& q, const at::Tensor& k,
               const at::Tensor& v, const at::Tensor& mask, bool causal) {
  switch (plan.kernel) {
    case AttentionKernel::kFlash:
      return std::get<0>(at::_scaled_dot_product_flash_attention(q, k, v, 0.0, causal));
    case AttentionKernel::kEfficient:
      return efficient(q, k, v, mask, causal);
    case AttentionKernel::kFormula:
    case AttentionKernel::kLibrary:
      break;
  }
  const auto given = mask.defined() ? std::optional(mask) : std::nullopt;
  return at::scaled_dot_product_attention(q, k, v, given, 0.0, causal, std::nullopt,
                                          q.size(1) != k.size(1));
}

}  // namespace

AttentionPlan plan_attention(const AttentionCase& c) {
  const bool shared = c.heads != c.kv_heads;  // grouped-query attention
  const bool one = c.tokens == 1;
  if (!c.cuda) return {AttentionKernel::kLibrary, shared && one, false};
  const bool half = is_half(c.dtype);
  const int64_t alignment = half ? 8 : 4;
  const bool taken = c.head_dim % alignment == 0 && (half || c.dtype == at::kFloat) &&
                     !(c.dtype == at::kBFloat16 && c.capability < 80);
  if (!taken) return {AttentionKernel::kFormula, shared && one, shared && !one};
  if (half && !c.masked && c.capability >= 80 && c.head_dim <= 256)
    return {AttentionKernel::kFlash, false, false};
  return {AttentionKernel::kEfficient, shared && one, shared && !one};
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, bool causal) {
  const int64_t rows = q.size(0), heads = q.size(1), tokens = q.size(2), dim = q.size(3),
                kv_heads = k.size(1);
  AttentionPlan plan = plan_attention({.cuda = q.is_cuda(),
                                       .capability = q.is_cuda() ? capability_of(q) : 0,
                                       .dtype = q.scalar_type(),
                                       .heads = heads,
                                       .kv_heads = kv_heads,
                                       .head_dim = dim,
                                       .tokens = tokens,
                                       .masked = mask.defined()});
  causal = causal && tokens > 1;
  if (plan.grouped) {
    const int64_t group = heads / kv_heads;
    const at::Tensor wide = q.reshape({rows, kv_heads, group, dim});
    const at::Tensor seen =
        mask.defined() ? mask.expand({mask.size(0), 1, group, mask.size(3)}) : mask;
    return run(plan, wide, k, v, seen, false).reshape({rows, 1, heads * dim});
  }
  const at::Tensor out = plan.repeat_heads
                             ? run(plan, q, repeated(k, heads), repeated(v, heads), mask, causal)
                             : run(plan, q, k, v, mask, causal);
  return out.transpose(1, 2).reshape({rows, tokens, heads * dim});
}

}  // namespace kvlingua
