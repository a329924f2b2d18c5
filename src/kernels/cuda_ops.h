// The CUDA twins of the CPU kernels; same meaning as the public operations, float32, float16 and
// bfloat16.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlingua/kernels/qkv_rope.h"

namespace kvlingua::cuda {

// delta undefined: plain normalisation; defined: x += delta first.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                    double eps);
at::Tensor silu_mul(const at::Tensor& gate_up);
void split_qkv_rope(const at::Tensor& qkv, const QkvRope& rope, const at::Tensor& q,
                    const at::Tensor& k, const at::Tensor& v);

// Gradients of the same, with respect to their inputs; the weights are frozen or have theirs
// elsewhere. weight_rows: how many rows of x share a row of weight [G, width] (0: all of them one).
at::Tensor rms_norm_backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                             double eps, int64_t weight_rows);
at::Tensor rms_norm_groups(const at::Tensor& x, const at::Tensor& weight, double eps,
                           int64_t weight_rows);
at::Tensor silu_mul_backward(const at::Tensor& gate_up, const at::Tensor& dy);
// d_q, d_k, d_v [B, H, T, D], any strides with a contiguous last dimension, undefined: zero.
// Gives [B, T, C].
at::Tensor split_qkv_rope_backward(const at::Tensor& qkv, const QkvRope& rope, int64_t heads,
                                   int64_t kv_heads, const at::Tensor& d_q, const at::Tensor& d_k,
                                   const at::Tensor& d_v);

}  // namespace kvlingua::cuda
