#include "kvlingua/kernels/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <vector>

#include "cpu.h"

namespace kvlingua {
namespace {

constexpr int64_t kBlock = 1 << 14;

struct Factors {
  float scale, keep1, take1, keep2, take2, decay, step_size, root_bias2, eps;
};

KVLINGUA_CLONES void step_range(const Factors f, float* __restrict w, float* __restrict g,
                                float* __restrict m, float* __restrict v, int64_t begin,
                                int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float gradient = g[i] * f.scale;
    const float first = m[i] * f.keep1 + gradient * f.take1;
    const float second = v[i] * f.keep2 + gradient * gradient * f.take2;
    m[i] = first;
    v[i] = second;
    w[i] = w[i] * f.decay - f.step_size * first / (std::sqrt(second) / f.root_bias2 + f.eps);
    g[i] = 0.0f;
  }
}

KVLINGUA_CLONES double squares(const float* x, int64_t begin, int64_t end) {
  return static_cast<double>(
      cpu::lane_sum(end - begin, [&](int64_t i) { return x[begin + i] * x[begin + i]; }));
}

}  // namespace

void adamw_step(const AdamW& how, const at::Tensor& values, const at::Tensor& gradient,
                const at::Tensor& first, const at::Tensor& second) {
  for (const at::Tensor* t : {&values, &gradient, &first, &second}) {
    TORCH_CHECK(t->is_cpu() && t->scalar_type() == at::kFloat && t->is_contiguous() &&
                t->numel() == values.numel());
  }
  const auto steps = static_cast<double>(how.step);
  const Factors f{.scale = static_cast<float>(how.gradient_scale),
                  .keep1 = static_cast<float>(how.beta1),
                  .take1 = static_cast<float>(1.0 - how.beta1),
                  .keep2 = static_cast<float>(how.beta2),
                  .take2 = static_cast<float>(1.0 - how.beta2),
                  .decay = static_cast<float>(1.0 - how.lr * how.weight_decay),
                  .step_size = static_cast<float>(how.lr / (1.0 - std::pow(how.beta1, steps))),
                  .root_bias2 = static_cast<float>(std::sqrt(1.0 - std::pow(how.beta2, steps))),
                  .eps = static_cast<float>(how.eps)};
  float* w = values.data_ptr<float>();
  float* g = gradient.data_ptr<float>();
  float* m = first.data_ptr<float>();
  float* v = second.data_ptr<float>();
  at::parallel_for(0, values.numel(), kBlock,
                   [&](int64_t begin, int64_t end) { step_range(f, w, g, m, v, begin, end); });
}

double sum_of_squares(const at::Tensor& x) {
  TORCH_CHECK(x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous());
  const int64_t n = x.numel(), blocks = (n + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks));
  const float* data = x.const_data_ptr<float>();
  at::parallel_for(0, blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      sums[static_cast<size_t>(b)] = squares(data, b * kBlock, std::min(n, (b + 1) * kBlock));
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace kvlingua
