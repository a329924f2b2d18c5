#include "kvlingua/kernels/silu_mul.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cpu.h"
#ifdef KVLINGUA_CUDA
#include "cuda_ops.h"
#endif

namespace kvlingua {
namespace {

KVLINGUA_CLONES void forward_rows(const float* gate_up, float* out, int64_t begin, int64_t end,
                                  int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = gate_up + row * 2 * width;
    const float* up = gate + width;
    float* y = out + row * width;
    for (int64_t i = 0; i < width; ++i) y[i] = gate[i] / (1.0f + cpu::exp_approx(-gate[i])) * up[i];
  }
}

KVLINGUA_CLONES void backward_rows(const float* gate_up, const float* dy, float* out, int64_t begin,
                                   int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = gate_up + row * 2 * width;
    const float* up = gate + width;
    const float* g = dy + row * width;
    float* d_gate = out + row * 2 * width;
    float* d_up = d_gate + width;
    for (int64_t i = 0; i < width; ++i) {
      const float sigmoid = 1.0f / (1.0f + cpu::exp_approx(-gate[i]));
      d_up[i] = g[i] * gate[i] * sigmoid;
      d_gate[i] = g[i] * up[i] * sigmoid * (1.0f + gate[i] * (1.0f - sigmoid));
    }
  }
}

int64_t grain(int64_t width) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(width, 1)); }

at::Tensor forward_cpu(const at::Tensor& gate_up) {
  const int64_t width = gate_up.size(-1) / 2;
  auto sizes = gate_up.sizes().vec();
  sizes.back() = width;
  at::Tensor out = at::empty(sizes, gate_up.options());
  at::parallel_for(0, out.numel() / width, grain(width), [&](int64_t begin, int64_t end) {
    forward_rows(gate_up.const_data_ptr<float>(), out.data_ptr<float>(), begin, end, width);
  });
  return out;
}

class SiluMul : public torch::autograd::Function<SiluMul> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& gate_up_any) {
    const at::Tensor gate_up = gate_up_any.contiguous();
    context->save_for_backward({gate_up});
    return forward_cpu(gate_up);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor gate_up = context->get_saved_variables()[0];
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor d = at::empty_like(gate_up);
    const int64_t width = dy.size(-1);
    at::parallel_for(0, dy.numel() / width, grain(width), [&](int64_t begin, int64_t end) {
      backward_rows(gate_up.const_data_ptr<float>(), dy.const_data_ptr<float>(),
                    d.data_ptr<float>(), begin, end, width);
    });
    return {d};
  }
};

#ifdef KVLINGUA_CUDA
class CudaSiluMul : public torch::autograd::Function<CudaSiluMul> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& any) {
    const at::Tensor gate_up = any.contiguous();
    context->save_for_backward({gate_up});
    return cuda::silu_mul(gate_up);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    return {cuda::silu_mul_backward(context->get_saved_variables()[0], gradients[0].contiguous())};
  }
};
#endif

}  // namespace

at::Tensor silu_mul(const at::Tensor& gate_up) {
  const bool differentiable = at::GradMode::is_enabled() && gate_up.requires_grad();
  if (gate_up.is_cpu() && gate_up.scalar_type() == at::kFloat && gate_up.numel() > 0) {
    return differentiable ? SiluMul::apply(gate_up) : forward_cpu(gate_up.contiguous());
  }
#ifdef KVLINGUA_CUDA
  if (gate_up.is_cuda() && gate_up.numel() > 0)
    return differentiable ? CudaSiluMul::apply(gate_up) : cuda::silu_mul(gate_up.contiguous());
#endif
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

}  // namespace kvlingua
