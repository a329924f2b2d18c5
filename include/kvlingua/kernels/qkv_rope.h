// One pass from the fused projection to what attention reads: split into heads, normalise each
// head's queries and keys (Qwen3), rotate them (RoPE), and write keys and values straight into
// their place in the cache.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlingua {

struct QkvRope {
  at::Tensor cos, sin;        // float32 [T, D/2] or [B or 1, T, D/2], contiguous
  at::Tensor q_norm, k_norm;  // [D], or undefined: no normalisation
  double eps = 1e-6;
};

// qkv [B, T, C], contiguous; C holds the heads of every output that is defined, in the order q, k,
// v. q_BHTD, k_BHTD, v_BHTD: any strides with a contiguous last dimension; q alone, or k and v
// alone, may be undefined. Rotation is computed in float32 and rounded once. Not differentiable.
void split_qkv_rope(const at::Tensor& qkv, const QkvRope& rope, const at::Tensor& q_BHTD,
                    const at::Tensor& k_BHTD, const at::Tensor& v_BHTD);

// The same, differentiable in qkv where the norms are frozen: one kernel each way on a GPU.
// q [B, heads, T, D], k and v [B, kv_heads, T, D].
struct SplitQkv {
  at::Tensor q, k, v;
};
SplitQkv split_qkv_rope(const at::Tensor& qkv, const QkvRope& rope, int64_t heads,
                        int64_t kv_heads);

}  // namespace kvlingua
