#include "kvlingua/kernels/rotate_halves.h"

#include <ATen/ATen.h>

namespace kvlingua {

at::Tensor rotate_halves(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const at::Tensor first = wide.narrow(-1, 0, half);
  const at::Tensor second = wide.narrow(-1, half, half);
  const at::Tensor c = cos.unsqueeze(-3), s = sin.unsqueeze(-3);  // over heads
  return at::cat({first * c - second * s, second * c + first * s}, -1).to(x.scalar_type());
}

}  // namespace kvlingua
