// Scaled dot-product attention with the kernel chosen here, not by libtorch.
//
// libtorch's own choice is slow on a GPU for three reasons. cuDNN's attention builds a plan (tens
// of milliseconds) for every new set of sizes and strides, and a decoder has a new length at every
// step. The memory-efficient kernel takes no grouped heads, so a mask with grouped-query attention
// (GQA) falls back to the plain formula, which keeps float32 scores [B, Hq, T, S]. And float32
// never reaches the flash kernel. So: flash (Dao 2023) where there is no mask and the type is half;
// otherwise the memory-efficient kernel (Rabe & Staats 2021, as xFormers wrote it) over keys and
// values repeated to all heads, or, for one new token, over queries grouped by key head, which
// repeats nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace kvlingua {

enum class AttentionKernel {
  kLibrary,    // libtorch's own for the device: every CPU
  kFlash,      // no mask, float16 or bfloat16, grouped heads as they are
  kEfficient,  // any mask; as many key heads as query heads
  kFormula     // float64, and heads that no kernel takes
};

// What the choice depends on.
struct AttentionCase {
  bool cuda = false;
  int64_t capability = 0;  // of the card, 10 * major + minor: 75, 80, 90
  at::ScalarType dtype = at::kFloat;
  int64_t heads = 1, kv_heads = 1, head_dim = 64;
  int64_t tokens = 1;  // queries
  bool masked = false;
};

struct AttentionPlan {
  AttentionKernel kernel = AttentionKernel::kLibrary;
  // One query: those heads that share a key head become its queries, so keys are read once.
  bool grouped = false;
  bool repeat_heads = false;  // keys and values are copied to all query heads

  bool operator==(const AttentionPlan&) const = default;
};

AttentionPlan plan_attention(const AttentionCase& what);

// q [B, Hq, T, D] over k, v [B, H, S, D]; mask additive, [B or 1, 1, T, S], or undefined. `causal`
// (without a mask): query t sees keys 0 .. t. Gives [B, T, Hq * D]. Differentiable.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, bool causal);

// A mask's rows begin at multiples of this many elements, so that the memory-efficient kernel takes
// it as it lies.
constexpr int64_t kMaskAlignment = 16;

}  // namespace kvlingua
