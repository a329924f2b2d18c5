#include "kvlingua/kernels/qkv_rope.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "cpu.h"
#include "kvlingua/kernels/rms_norm.h"
#include "kvlingua/kernels/rotate_halves.h"
#ifdef KVLINGUA_CUDA
#include "cuda_ops.h"
#endif

namespace kvlingua {
namespace {

// Where a [B, H, T, D] tensor's heads lie.
struct Target {
  float* data = nullptr;
  int64_t heads = 0, batch_stride = 0, head_stride = 0, token_stride = 0;
};

Target target_of(const at::Tensor& t) {
  if (!t.defined()) return {};
  return {t.data_ptr<float>(), t.size(1), t.stride(0), t.stride(1), t.stride(2)};
}

// One head: out = rotate(norm(x)); `norm` null: no normalisation.
inline __attribute__((always_inline)) void rotate_head(const float* x, const float* cos,
                                                       const float* sin, const float* norm,
                                                       float eps, float* out, int64_t dim) {
  const int64_t half = dim / 2;
  if (norm == nullptr) {
    for (int64_t i = 0; i < half; ++i) out[i] = x[i] * cos[i] - x[half + i] * sin[i];
    for (int64_t i = 0; i < half; ++i) out[half + i] = x[half + i] * cos[i] + x[i] * sin[i];
    return;
  }
  const float square = cpu::lane_sum(dim, [&](int64_t i) { return x[i] * x[i]; });
  const float scale = 1.0f / std::sqrt(square / static_cast<float>(dim) + eps);
  for (int64_t i = 0; i < half; ++i) {
    const float a = norm[i] * (x[i] * scale), b = norm[half + i] * (x[half + i] * scale);
    out[i] = a * cos[i] - b * sin[i];
    out[half + i] = b * cos[i] + a * sin[i];
  }
}

struct Job {
  const float* qkv;
  const float *cos, *sin;
  int64_t table_batch_stride;  // 0 when all rows share their positions
  const float *q_norm, *k_norm;
  float eps;
  int64_t tokens, dim, width;
  Target q, k, v;
};

KVLINGUA_CLONES void split_rows(const Job& job, int64_t begin, int64_t end) {
  const int64_t dim = job.dim;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / job.tokens, t = row % job.tokens;
    const float* x = job.qkv + row * job.width;
    const float* cos = job.cos + b * job.table_batch_stride + t * (dim / 2);
    const float* sin = job.sin + b * job.table_batch_stride + t * (dim / 2);
    for (int64_t h = 0; h < job.q.heads; ++h, x += dim) {
      rotate_head(
          x, cos, sin, job.q_norm, job.eps,
          job.q.data + b * job.q.batch_stride + h * job.q.head_stride + t * job.q.token_stride,
          dim);
    }
    for (int64_t h = 0; h < job.k.heads; ++h, x += dim) {
      rotate_head(
          x, cos, sin, job.k_norm, job.eps,
          job.k.data + b * job.k.batch_stride + h * job.k.head_stride + t * job.k.token_stride,
          dim);
    }
    for (int64_t h = 0; h < job.v.heads; ++h, x += dim) {
      float* out =
          job.v.data + b * job.v.batch_stride + h * job.v.head_stride + t * job.v.token_stride;
      for (int64_t i = 0; i < dim; ++i) out[i] = x[i];
    }
  }
}

// The same in plain tensor operations: any device, any type.
void formula(const at::Tensor& qkv, const QkvRope& rope, const at::Tensor& q, const at::Tensor& k,
             const at::Tensor& v) {
  const int64_t dim = (q.defined() ? q : k).size(3);
  const at::Tensor heads = qkv.view({qkv.size(0), qkv.size(1), -1, dim});
  int64_t at_head = 0;
  const auto take = [&](const at::Tensor& out) {
    const at::Tensor part = heads.narrow(2, at_head, out.size(1));
    at_head += out.size(1);
    return part;
  };
  const auto finish = [&](const at::Tensor& out, const at::Tensor& norm) {
    const at::Tensor part = take(out);
    const at::Tensor normed = norm.defined() ? rms_norm(part, norm, rope.eps) : part;
    out.copy_(rotate_halves(normed.transpose(1, 2), rope.cos, rope.sin));
  };
  if (q.defined()) finish(q, rope.q_norm);
  if (k.defined()) finish(k, rope.k_norm);
  if (v.defined()) v.copy_(take(v).transpose(1, 2));
}

#ifdef KVLINGUA_CUDA
SplitQkv room_for(const at::Tensor& qkv, int64_t heads, int64_t kv_heads) {
  const int64_t dim = qkv.size(2) / (heads + 2 * kv_heads);
  const auto room = [&](int64_t h) {
    return at::empty({qkv.size(0), h, qkv.size(1), dim}, qkv.options().requires_grad(false));
  };
  return {room(heads), room(kv_heads), room(kv_heads)};
}

struct SplitCall : torch::CustomClassHolder {
  QkvRope rope;
  int64_t heads = 0, kv_heads = 0;
};

class CudaSplit : public torch::autograd::Function<CudaSplit> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& any,
                                                const c10::intrusive_ptr<SplitCall>& call) {
    const at::Tensor qkv = any.contiguous();
    const SplitQkv out = room_for(qkv, call->heads, call->kv_heads);
    cuda::split_qkv_rope(qkv, call->rope, out.q, out.k, out.v);
    context->saved_data["call"] = at::IValue::make_capsule(call);
    context->save_for_backward({qkv});
    return {out.q, out.k, out.v};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto call =
        c10::static_intrusive_pointer_cast<SplitCall>(context->saved_data["call"].toCapsule());
    const auto dense = [](const at::Tensor& g) {
      return g.defined() && g.stride(3) != 1 ? g.contiguous() : g;
    };
    return {cuda::split_qkv_rope_backward(context->get_saved_variables()[0], call->rope,
                                          call->heads, call->kv_heads, dense(gradients[0]),
                                          dense(gradients[1]), dense(gradients[2])),
            at::Tensor()};
  }
};
#endif

// In operations that autograd follows.
SplitQkv differentiable_formula(const at::Tensor& qkv, const QkvRope& rope, int64_t heads,
                                int64_t kv_heads) {
  const auto parts = qkv.view({qkv.size(0), qkv.size(1), heads + 2 * kv_heads, -1})
                         .split_with_sizes({heads, kv_heads, kv_heads}, 2);
  const auto turned = [&](const at::Tensor& part, const at::Tensor& norm) {
    const at::Tensor normed = norm.defined() ? rms_norm(part, norm, rope.eps) : part;
    return rotate_halves(normed.transpose(1, 2), rope.cos, rope.sin);
  };
  return {turned(parts[0], rope.q_norm), turned(parts[1], rope.k_norm), parts[2].transpose(1, 2)};
}

}  // namespace

SplitQkv split_qkv_rope(const at::Tensor& qkv, const QkvRope& rope, int64_t heads,
                        int64_t kv_heads) {
#ifdef KVLINGUA_CUDA
  const auto trained = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
  if (qkv.is_cuda() && !trained(rope.q_norm) && !trained(rope.k_norm)) {
    auto call = c10::make_intrusive<SplitCall>();
    call->rope = rope;
    call->heads = heads;
    call->kv_heads = kv_heads;
    const auto out = CudaSplit::apply(qkv, call);
    return {out[0], out[1], out[2]};
  }
#endif
  return differentiable_formula(qkv, rope, heads, kv_heads);
}

void split_qkv_rope(const at::Tensor& qkv, const QkvRope& rope, const at::Tensor& q,
                    const at::Tensor& k, const at::Tensor& v) {
  TORCH_CHECK(qkv.dim() == 3 && qkv.is_contiguous() && k.defined() == v.defined() &&
              (q.defined() || k.defined()));
  const at::Tensor& any = q.defined() ? q : k;
  const int64_t dim = any.size(3);
  const int64_t heads = (q.defined() ? q.size(1) : 0) + (k.defined() ? k.size(1) + v.size(1) : 0);
  TORCH_CHECK(qkv.size(2) == heads * dim && any.size(0) == qkv.size(0) &&
              any.size(2) == qkv.size(1) && dim % 2 == 0);
  TORCH_CHECK(rope.cos.is_contiguous() && rope.sin.is_contiguous() &&
              rope.cos.size(-1) == dim / 2 && rope.cos.size(-2) == qkv.size(1) &&
              rope.cos.scalar_type() == at::kFloat);
  if (qkv.numel() == 0) return;
#ifdef KVLINGUA_CUDA
  if (qkv.is_cuda()) return cuda::split_qkv_rope(qkv, rope, q, k, v);
#endif
  if (!qkv.is_cpu() || qkv.scalar_type() != at::kFloat) return formula(qkv, rope, q, k, v);
  const bool shared = rope.cos.dim() == 2 || rope.cos.size(0) == 1;
  const Job job{qkv.const_data_ptr<float>(),
                rope.cos.const_data_ptr<float>(),
                rope.sin.const_data_ptr<float>(),
                shared ? 0 : qkv.size(1) * dim / 2,
                rope.q_norm.defined() ? rope.q_norm.const_data_ptr<float>() : nullptr,
                rope.k_norm.defined() ? rope.k_norm.const_data_ptr<float>() : nullptr,
                static_cast<float>(rope.eps),
                qkv.size(1),
                dim,
                qkv.size(2),
                target_of(q),
                target_of(k),
                target_of(v)};
  at::parallel_for(0, qkv.size(0) * qkv.size(1), std::max<int64_t>(1, 8192 / qkv.size(2)),
                   [&](int64_t begin, int64_t end) { split_rows(job, begin, end); });
}

}  // namespace kvlingua
