// What the two twins of gated_add share: its sizes, and the CUDA entry points.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlingua/kernels/gated_add.h"

namespace kvlingua {

// All contiguous, of one type.
struct GatedAddSizes {
  int64_t layers, batch, heads, tokens, dim;
  static GatedAddSizes of(const GatedAdd& in) {
    return {in.keys.size(0), in.keys.size(1), in.keys.size(2), in.keys.size(3), in.keys.size(4)};
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
