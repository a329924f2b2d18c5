// Token rows out of a cache in one pass over memory: chosen entries of [L, B, H, T, D] as [R, L, H,
// D], rotated (or un-rotated) and rounded to another type on the way.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlingua {

// x_LBHTD: a contiguous last dimension, else any strides. index [R] int64 on the CPU: b * T + t of
// each row. cos, sin [R, D/2] float32 on the device of x: (a, b) -> (a cos - b sin, b cos + a sin)
// over the halves of a head, in float32, every product rounded as the plain tensor operations round
// it; undefined: no rotation. The result is contiguous, of type `dtype`, on the device of x.
at::Tensor cache_rows(const at::Tensor& x_LBHTD, const at::Tensor& index, const at::Tensor& cos,
                      const at::Tensor& sin, at::ScalarType dtype);

}  // namespace kvlingua
