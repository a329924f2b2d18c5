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

}  // namespace kvlingua::cuda
