// The gate of a SwiGLU feed-forward block (Shazeer 2020): silu(gate) * up, from one fused
// projection.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlingua {

// gate_up [..., 2 C], the gate first; gives [..., C]. Differentiable.
at::Tensor silu_mul(const at::Tensor& gate_up);

}  // namespace kvlingua
