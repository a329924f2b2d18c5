// Rotary embedding in plain tensor operations: any device and type, followed by autograd. The fused
// kernels (qkv_rope, cache_rows) are held to it.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlingua {

// x [.., H, T, D] with its halves (a, b) turned to (a cos - b sin, b cos + a sin); cos and sin
// [T, D/2] or [.., T, D/2] without the head dimension. Computed in float32 (float64 for that type)
// and rounded once.
at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace kvlingua
