// One residual MLP block of the Cache-to-Cache projector, float32 on the CPU, forward and back:
//
//   y = x + drop(W2 gelu(W1 rmsnorm(x)))      W1 [inner, width], W2 [width, inner], norm [width]
//
// Written out by hand: products through oneDNN straight from row-major weights, gradients added in
// place, dropout drawn from a counter (seed, element) so that no mask is kept. One call works on
// one thread when it is called from a parallel region: the caller runs one tower a thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace kvlingua::mlp_block {

struct Weights {
  at::Tensor norm, w1, w2;
};

struct Dropout {
  double p = 0;  // 0: none
  uint64_t seed = 0;
};

// What the way back needs.
struct Saved {
  at::Tensor x, normed, inverse, inner, active;
};

constexpr double kEps = 1e-6;

// x [N, width], contiguous.
at::Tensor forward(const Weights& w, const at::Tensor& x, const Dropout& dropout, Saved* saved);
// dy [N, width] contiguous; adds to the gradients and gives dx.
at::Tensor backward(const Weights& w, const Saved& saved, const Dropout& dropout,
                    const at::Tensor& dy, const Weights& gradients);

// y = x W^T + b, and its way back: adds to dw and db, gives dx (undefined unless wanted).
at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b);
at::Tensor linear_backward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy,
                           const at::Tensor& dw, const at::Tensor& db, bool want_dx);

}  // namespace kvlingua::mlp_block
