// The end of the Cache-to-Cache projector in training (arXiv 2510.03215): the projection, weighed
// by head and token and let through by a noisy gate, added to the target's cache, with the turn
// from [tokens, heads] to cache layout, in one pass forward and one back.
//
//   out = target + g w P     w = sigmoid(score)     g = sigmoid((logit + noise) / temperature)
// Half types round after each product and the sum, as the reference's operations do. CPU (float32)
// and CUDA kernels, twins of each other; other types on the CPU take the formula.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace kvlingua {

struct GatedAdd {
  at::Tensor keys, values;  // [T, B, H, N, D] the target's
  at::Tensor projected;     // [2, T, B, N, H, D] keys first
  at::Tensor score;         // [2, T, B, N, H]
  at::Tensor noise;         // [2, T, B, N, H]
  at::Tensor logit;         // [2, T]
  at::Tensor temperature;   // [T]
};

// Keys and values [T, B, H, N, D]. Differentiable in keys, values, projected, score and logit.
std::pair<at::Tensor, at::Tensor> gated_add(const GatedAdd& in);

// The same in plain tensor operations: any device, any type.
std::pair<at::Tensor, at::Tensor> gated_add_formula(const GatedAdd& in);

}  // namespace kvlingua
