#include "kvlingua/kernels/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "cpu.h"
#include "norm_rows.h"
#ifdef KVLINGUA_CUDA
#include "cuda_ops.h"
#endif

namespace kvlingua {
namespace {

KVLINGUA_CLONES void add_norm_rows(float* x, const float* delta, const float* weight, float* y,
                                   int64_t begin, int64_t end, int64_t width, float eps) {
  for (int64_t row = begin; row < end; ++row) {
    float* in = x + row * width;
    const float* add = delta + row * width;
    float* out = y + row * width;
    for (int64_t i = 0; i < width; ++i) in[i] += add[i];
    const float square = cpu::lane_sum(width, [&](int64_t i) { return in[i] * in[i]; });
    const float scale = 1.0f / std::sqrt(square / static_cast<float>(width) + eps);
    for (int64_t i = 0; i < width; ++i) out[i] = weight[i] * (in[i] * scale);
  }
}

int64_t grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)); }

bool on_fast_path(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
}

// The formula in plain tensor operations: any device, any type.
at::Tensor formula(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor normed = wide * at::rsqrt(wide.square().mean(-1, true) + eps);
  return weight * normed.to(x.scalar_type());
}

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, double eps, float* inverse) {
  const int64_t width = x.size(-1);
  at::Tensor y = at::empty_like(x);
  const float* in = x.const_data_ptr<float>();
  const at::Tensor w = weight.contiguous();
  at::parallel_for(0, x.numel() / width, grain(width), [&](int64_t begin, int64_t end) {
    cpu::norm_rows(in + begin * width, w.const_data_ptr<float>(),
                   y.data_ptr<float>() + begin * width,
                   inverse == nullptr ? nullptr : inverse + begin, end - begin, width,
                   static_cast<float>(eps));
  });
  return y;
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_any,
                            const at::Tensor& weight, double eps) {
    const at::Tensor x = x_any.contiguous();
    const at::Tensor inverse = at::empty({x.numel() / x.size(-1)}, x.options());
    at::Tensor y = forward_cpu(x, weight, eps, inverse.data_ptr<float>());
    context->save_for_backward({x, weight, inverse});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &inverse = saved[2];
    const at::Tensor weight = saved[1].contiguous();
    const at::Tensor dy = gradients[0].contiguous();
    const int64_t width = x.size(-1), rows = x.numel() / width;
    at::Tensor dx, dw;
    if (context->needs_input_grad(0)) {
      dx = at::zeros_like(x);
      at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
        const int64_t at = begin * width;
        cpu::norm_backward_rows(x.const_data_ptr<float>() + at, weight.const_data_ptr<float>(),
                                inverse.const_data_ptr<float>() + begin,
                                dy.const_data_ptr<float>() + at, dx.data_ptr<float>() + at,
                                /*dw=*/nullptr, end - begin, width);
      });
    }
    if (context->needs_input_grad(1)) {
      dw = (dy.view({rows, width}) * x.view({rows, width})).mul_(inverse.view({rows, 1})).sum(0);
    }
    return {dx, dw, at::Tensor()};
  }
};

#ifdef KVLINGUA_CUDA
// Of a frozen weight, or one weight a group of rows ([G, N, width] and [G, width])
// that may be trained.
class CudaRmsNorm : public torch::autograd::Function<CudaRmsNorm> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_any,
                            const at::Tensor& weight, double eps, int64_t weight_rows) {
    const at::Tensor x = x_any.contiguous();
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    context->saved_data["weight_rows"] = weight_rows;
    return cuda::rms_norm_groups(x, weight, eps, weight_rows);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const double eps = context->saved_data["eps"].toDouble();
    const int64_t weight_rows = context->saved_data["weight_rows"].toInt();
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor dx, dw;
    if (context->needs_input_grad(0)) dx = cuda::rms_norm_backward(x, weight, dy, eps, weight_rows);
    if (context->needs_input_grad(1)) {
      const at::Tensor ones = at::ones_like(weight);
      const at::Tensor normed = cuda::rms_norm_groups(x, ones, eps, weight_rows);
      const at::Tensor product = normed.mul_(dy);
      dw = weight.dim() == 2 ? product.view({weight.size(0), -1, weight.size(1)}).sum(1)
                             : product.view({-1, weight.size(0)}).sum(0);
    }
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};
#endif

}  // namespace

at::Tensor rms_norm_groups(const at::Tensor& x_GNC, const at::Tensor& weight_GC, double eps) {
#ifdef KVLINGUA_CUDA
  if (x_GNC.is_cuda() && x_GNC.numel() > 0 && x_GNC.scalar_type() == weight_GC.scalar_type())
    return CudaRmsNorm::apply(x_GNC, weight_GC.contiguous(), eps, x_GNC.size(1));
#endif
  return x_GNC * at::rsqrt(x_GNC.square().mean(-1, /*keepdim=*/true) + eps) *
         weight_GC.unsqueeze(1);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const bool differentiable =
      at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  if (x.numel() == 0) return formula(x, weight, eps);
  if (on_fast_path(x, weight)) {
    return differentiable ? RmsNorm::apply(x, weight, eps)
                          : forward_cpu(x.contiguous(), weight, eps, nullptr);
  }
#ifdef KVLINGUA_CUDA
  if (!differentiable && x.is_cuda())
    return cuda::rms_norm(x.contiguous(), {}, weight.contiguous(), eps);
  if (x.is_cuda() && !weight.requires_grad() && x.scalar_type() == weight.scalar_type())
    return CudaRmsNorm::apply(x, weight.contiguous(), eps, 0);
#endif
  return formula(x, weight, eps);
}

at::Tensor add_rms_norm_(const at::Tensor& residual, const at::Tensor& delta,
                         const at::Tensor& weight, double eps) {
  TORCH_CHECK(residual.is_contiguous() && delta.is_contiguous() &&
              residual.sizes() == delta.sizes());
  if (on_fast_path(residual, weight) && delta.scalar_type() == at::kFloat && residual.numel() > 0) {
    const int64_t width = residual.size(-1);
    at::Tensor y = at::empty_like(residual);
    at::parallel_for(0, residual.numel() / width, grain(width), [&](int64_t begin, int64_t end) {
      add_norm_rows(residual.data_ptr<float>(), delta.const_data_ptr<float>(),
                    weight.const_data_ptr<float>(), y.data_ptr<float>(), begin, end, width,
                    static_cast<float>(eps));
    });
    return y;
  }
#ifdef KVLINGUA_CUDA
  if (residual.is_cuda() && residual.numel() > 0)
    return cuda::rms_norm(residual, delta, weight.contiguous(), eps);
#endif
  residual.add_(delta);
  return formula(residual, weight, eps);
}

}  // namespace kvlingua
