// AdamW (Loshchilov and Hutter 2019) over one flat float32 CPU tensor: gradient scaling, both
// moments, the weights and the clearing of the gradient in one pass over memory, which is what such
// a step costs. On other devices trainers use at::_fused_adamw_.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace kvlingua {

struct AdamW {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;           // of this one, from 1
  double gradient_scale = 1;  // the gradient is multiplied by it first
};

// All four: contiguous float32 on the CPU, of one size. The gradient is zero afterwards.
void adamw_step(const AdamW& how, const at::Tensor& values, const at::Tensor& gradient,
                const at::Tensor& first, const at::Tensor& second);

// Sum of squares of a contiguous float32 CPU tensor, in double, the same for any thread count.
double sum_of_squares(const at::Tensor& x);

}  // namespace kvlingua
