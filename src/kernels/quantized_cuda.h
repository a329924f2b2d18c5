// The CUDA twins of quantized.h; the same meaning.
#pragma once

#include "kvlingua/kernels/quantized.h"

namespace kvlingua::cuda {

void nf4_dequantize(const at::Tensor& codes, const Nf4Scales& scales, const at::Tensor& out);
void int8_dequantize(const at::Tensor& codes, const at::Tensor& absmax, const at::Tensor& out);
at::Tensor nf4_product(const at::Tensor& x, const at::Tensor& codes, const Nf4Scales& scales,
                       int64_t outputs);
at::Tensor int8_product(const at::Tensor& x, const at::Tensor& codes, const at::Tensor& absmax);

}  // namespace kvlingua::cuda
