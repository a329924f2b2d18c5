// What the two twins of gated_add share: its sizes, and the CUDA entry points.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlingua/kernels/gated_add.h"

namespace kvlingua {

// All contiguous, of one type.
struct GatedAddSizes {
  int64_t layers, batch, heads, tokens, dim;
  static GatedAddSizes of(const GatedAdd& in) {
    return {in.projected.size(1), in.projected.size(2), in.projected.size(4), in.projected.size(3),
            in.projected.size(5)};
  }
};

namespace cuda {
void gated_add_forward(const GatedAdd& in, const at::Tensor& keys, const at::Tensor& values);
// d_gate: each element's part of the logit's gradient, [2, T, B, N, H] float32.
void gated_add_backward(const GatedAdd& in, const at::Tensor& d_keys, const at::Tensor& d_values,
                        const at::Tensor& d_projected, const at::Tensor& d_score,
                        const at::Tensor& d_gate);
}  // namespace cuda

}  // namespace kvlingua
