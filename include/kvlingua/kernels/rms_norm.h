// RMS normalisation as Qwen and Llama apply it (Zhang & Sennrich 2019): weight * (x / rms(x)), the
// division in float32 and rounded to the type of x before it meets the weight, exactly as
// transformers rounds.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlingua {

// x [..., C], weight [C]. Differentiable in both.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// One weight a group: x [G, N, C], weight [G, C]. Differentiable in both; keeps x alone for the way
// back on a GPU.
at::Tensor rms_norm_groups(const at::Tensor& x_GNC, const at::Tensor& weight_GC, double eps);

// residual += delta, then rms_norm(residual): one pass over memory instead of two. Not
// differentiable; both contiguous.
at::Tensor add_rms_norm_(const at::Tensor& residual, const at::Tensor& delta,
                         const at::Tensor& weight, double eps);

}  // namespace kvlingua
