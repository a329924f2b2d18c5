#include "gated_add.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cpu.h"

namespace kvlingua {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + cpu::exp_approx(-x)); }

// One (kv, layer, batch, token): its heads stand `stride` apart in cache layout.
struct Row {
  const float *projected, *score, *noise;
  float logit, temperature;
  int64_t heads, dim, stride;
};

KVLINGUA_CLONES void forward_row(const Row& r, const float* target, float* out) {
  for (int64_t h = 0; h < r.heads; ++h) {
    const float factor = sigmoid((r.logit + r.noise[h]) / r.temperature) * sigmoid(r.score[h]);
    const float* p = r.projected + h * r.dim;
    const float* t = target + h * r.stride;
    float* o = out + h * r.stride;
    for (int64_t d = 0; d < r.dim; ++d) o[d] = t[d] + factor * p[d];
  }
}

KVLINGUA_CLONES void backward_row(const Row& r, const float* d_out, float* d_projected,
                                  float* d_score, float* d_gate) {
  for (int64_t h = 0; h < r.heads; ++h) {
    const float gate = sigmoid((r.logit + r.noise[h]) / r.temperature),
                weight = sigmoid(r.score[h]);
    const float* p = r.projected + h * r.dim;
    const float* g = d_out + h * r.stride;
    float* dp = d_projected + h * r.dim;
    const float factor = gate * weight;
    for (int64_t d = 0; d < r.dim; ++d) dp[d] = factor * g[d];
    const float dot = cpu::lane_sum(r.dim, [&](int64_t d) { return g[d] * p[d]; });
    d_score[h] = dot * gate * weight * (1.0f - weight);
    d_gate[h] = dot * weight * gate * (1.0f - gate) / r.temperature;
  }
}

// body(row, offset of the row's first head in cache layout, index of the row, kv)
template <class F>
void each_row(const GatedAdd& in, F body) {
  const GatedAddSizes s = GatedAddSizes::of(in);
  const int64_t rows = 2 * s.layers * s.batch * s.tokens;
  const float* logit = in.logit.const_data_ptr<float>();
  const float* temperature = in.temperature.const_data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, 16384 / (s.heads * s.dim)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t token = i % s.tokens, b = i / s.tokens % s.batch,
                                     tower = i / s.tokens / s.batch;
                       const int64_t layer = tower % s.layers;
                       const Row row{in.projected.const_data_ptr<float>() + i * s.heads * s.dim,
                                     in.score.const_data_ptr<float>() + i * s.heads,
                                     in.noise.const_data_ptr<float>() + i * s.heads,
                                     logit[tower],
                                     temperature[layer],
                                     s.heads,
                                     s.dim,
                                     s.tokens * s.dim};
                       body(row, ((layer * s.batch + b) * s.heads * s.tokens + token) * s.dim, i,
                            tower / s.layers);
                     }
                   });
}

void forward_cpu(const GatedAdd& in, const at::Tensor& keys, const at::Tensor& values) {
  const float* target[] = {in.keys.const_data_ptr<float>(), in.values.const_data_ptr<float>()};
  float* out[] = {keys.data_ptr<float>(), values.data_ptr<float>()};
  each_row(in, [&](const Row& row, int64_t offset, int64_t, int64_t kv) {
    forward_row(row, target[kv] + offset, out[kv] + offset);
  });
}

void backward_cpu(const GatedAdd& in, const at::Tensor& d_keys, const at::Tensor& d_values,
                  const at::Tensor& d_projected, const at::Tensor& d_score,
                  const at::Tensor& d_gate) {
  const GatedAddSizes s = GatedAddSizes::of(in);
  const float* d_out[] = {d_keys.const_data_ptr<float>(), d_values.const_data_ptr<float>()};
  each_row(in, [&](const Row& row, int64_t offset, int64_t i, int64_t kv) {
    backward_row(row, d_out[kv] + offset, d_projected.data_ptr<float>() + i * s.heads * s.dim,
                 d_score.data_ptr<float>() + i * s.heads, d_gate.data_ptr<float>() + i * s.heads);
  });
}

bool has_kernel(const GatedAdd& in) {
  if (in.keys.numel() == 0) return false;
  for (const at::Tensor* t :
       {&in.values, &in.projected, &in.score, &in.noise, &in.logit, &in.temperature}) {
    if (t->scalar_type() != in.keys.scalar_type() || t->device() != in.keys.device()) return false;
  }
#ifdef KVLINGUA_CUDA
  if (in.keys.is_cuda()) return true;
#endif
  return in.keys.is_cpu() && in.keys.scalar_type() == at::kFloat;
}

class Function : public torch::autograd::Function<Function> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& keys, const at::Tensor& values,
                                                const at::Tensor& projected,
                                                const at::Tensor& score, const at::Tensor& noise,
                                                const at::Tensor& logit,
                                                const at::Tensor& temperature) {
    const GatedAdd in{keys.contiguous(),       values.contiguous(), projected.contiguous(),
                      score.contiguous(),      noise.contiguous(),  logit.contiguous(),
                      temperature.contiguous()};
    // The target's own cache is not needed on the way back.
    context->save_for_backward({in.projected, in.score, in.noise, in.logit, in.temperature});
    at::Tensor out_keys = at::empty_like(in.keys), out_values = at::empty_like(in.values);
#ifdef KVLINGUA_CUDA
    if (in.keys.is_cuda()) {
      cuda::gated_add_forward(in, out_keys, out_values);
      return {out_keys, out_values};
    }
#endif
    forward_cpu(in, out_keys, out_values);
    return {out_keys, out_values};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const GatedAdd in{{}, {}, saved[0], saved[1], saved[2], saved[3], saved[4]};
    const GatedAddSizes s = GatedAddSizes::of(in);
    const auto whole = [&](const at::Tensor& g) {
      return g.defined()
                 ? g.contiguous()
                 : at::zeros({s.layers, s.batch, s.heads, s.tokens, s.dim}, in.projected.options());
    };
    const at::Tensor d_keys = whole(gradients[0]), d_values = whole(gradients[1]);
    at::Tensor d_projected = at::empty_like(in.projected), d_score = at::empty_like(in.score);
    at::Tensor d_gate = at::empty(in.score.sizes(), in.score.options().dtype(at::kFloat));
#ifdef KVLINGUA_CUDA
    if (in.projected.is_cuda())
      cuda::gated_add_backward(in, d_keys, d_values, d_projected, d_score, d_gate);
#endif
    if (in.projected.is_cpu()) backward_cpu(in, d_keys, d_values, d_projected, d_score, d_gate);
    const at::Tensor d_logit = d_gate.sum({2, 3, 4}).to(in.logit.scalar_type());
    return {d_keys, d_values, d_projected, d_score, at::Tensor(), d_logit, at::Tensor()};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> gated_add_formula(const GatedAdd& in) {
  const int64_t layers = in.keys.size(0);
  const at::Tensor gate = at::sigmoid((in.logit.view({2, layers, 1, 1, 1}) + in.noise) /
                                      in.temperature.view({1, layers, 1, 1, 1}));
  const at::Tensor added =
      ((gate * at::sigmoid(in.score)).unsqueeze(-1) * in.projected).permute({0, 1, 2, 4, 3, 5});
  return {in.keys + added.select(0, 0), in.values + added.select(0, 1)};
}

std::pair<at::Tensor, at::Tensor> gated_add(const GatedAdd& in) {
  if (!has_kernel(in)) return gated_add_formula(in);
  const auto out = Function::apply(in.keys, in.values, in.projected, in.score, in.noise, in.logit,
                                   in.temperature);
  return {out[0], out[1]};
}

}  // namespace kvlingua
