// CUDA twins of rms_norm, silu_mul and split_qkv_rope. One block a row (norm), one thread an
// element (gate), one block a token (rotation); arithmetic in float32, rounded where the CPU
// formula rounds.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include "cuda_ops.h"

namespace kvlingua::cuda {
namespace {

constexpr int kThreads = 256;

// Sum over the block; every thread gets it. blockDim.x is a multiple of 32.
__device__ float block_sum(float value) {
  __shared__ float partial[32];
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_down_sync(0xffffffffu, value, offset);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  if (warp == 0) {
    value = lane < static_cast<int>(blockDim.x) / 32 ? partial[lane] : 0.0f;
    for (int offset = 16; offset > 0; offset /= 2)
      value += __shfl_down_sync(0xffffffffu, value, offset);
    if (lane == 0) partial[0] = value;
  }
  __syncthreads();
  const float total = partial[0];
  __syncthreads();
  return total;
}

template <class T>
__global__ void rms_norm_kernel(T* x, const T* delta, const T* weight, T* y, int64_t width,
                                float eps, int64_t weight_rows) {
  if (weight_rows > 0) weight += blockIdx.x / weight_rows * width;
  T* in = x + blockIdx.x * width;
  T* out = y + blockIdx.x * width;
  float square = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    if (delta != nullptr)
      in[i] = static_cast<T>(static_cast<float>(in[i]) +
                             static_cast<float>(delta[blockIdx.x * width + i]));
    const float value = static_cast<float>(in[i]);
    square += value * value;
  }
  const float scale = rsqrtf(block_sum(square) / static_cast<float>(width) + eps);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const T normed = static_cast<T>(static_cast<float>(in[i]) * scale);
    out[i] = static_cast<T>(static_cast<float>(weight[i]) * static_cast<float>(normed));
  }
}

// y = w * T(x * scale), scale = rsqrt(mean(x^2) + eps):
// dx = scale * w dy - x scale^3 / width * sum(w dy x).
template <class T>
__global__ void rms_norm_backward_kernel(const T* x, const T* weight, const T* dy, T* dx,
                                         int64_t width, float eps, int64_t weight_rows) {
  if (weight_rows > 0) weight += blockIdx.x / weight_rows * width;
  const int64_t begin = blockIdx.x * width;
  float square = 0, dot = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const float value = static_cast<float>(x[begin + i]);
    square += value * value;
    dot += value * static_cast<float>(weight[i]) * static_cast<float>(dy[begin + i]);
  }
  const float scale = rsqrtf(block_sum(square) / static_cast<float>(width) + eps);
  const float pull = block_sum(dot) * scale * scale * scale / static_cast<float>(width);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const float g = static_cast<float>(weight[i]) * static_cast<float>(dy[begin + i]);
    dx[begin + i] = static_cast<T>(scale * g - pull * static_cast<float>(x[begin + i]));
  }
}

template <class T>
__global__ void silu_mul_backward_kernel(const T* gate_up, const T* dy, T* d, int64_t total,
                                         int64_t width) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= total) return;
  const int64_t row = index / width, column = index % width;
  const int64_t at_gate = row * 2 * width + column, at_up = at_gate + width;
  const float gate = static_cast<float>(gate_up[at_gate]), up = static_cast<float>(gate_up[at_up]),
              g = static_cast<float>(dy[index]);
  const float sigmoid = 1.0f / (1.0f + expf(-gate));
  d[at_gate] = static_cast<T>(g * up * sigmoid * (1.0f + gate * (1.0f - sigmoid)));
  d[at_up] = static_cast<T>(g * gate * sigmoid);
}

template <class T>
__global__ void silu_mul_kernel(const T* gate_up, T* out, int64_t total, int64_t width) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= total) return;
  const int64_t row = index / width, column = index % width;
  const float gate = static_cast<float>(gate_up[row * 2 * width + column]);
  const float up = static_cast<float>(gate_up[row * 2 * width + width + column]);
  const T silu = static_cast<T>(gate / (1.0f + expf(-gate)));
  out[index] = static_cast<T>(static_cast<float>(silu) * up);
}

template <class T>
struct Target {
  T* data;
  int64_t heads, batch_stride, head_stride, token_stride;
};

template <class T>
Target<T> target_of(const at::Tensor& t) {
  if (!t.defined()) return {nullptr, 0, 0, 0, 0};
  return {t.data_ptr<T>(), t.size(1), t.stride(0), t.stride(1), t.stride(2)};
}

// One block a (token, head); blockDim.x covers half a head.
template <class T>
__global__ void split_kernel(const T* qkv, const float* cos, const float* sin,
                             int64_t table_batch_stride, const T* q_norm, const T* k_norm,
                             float eps, int64_t tokens, int64_t dim, int64_t width, Target<T> q,
                             Target<T> k, Target<T> v) {
  const int64_t row = blockIdx.x, head = blockIdx.y;
  const int64_t b = row / tokens, t = row % tokens, half = dim / 2;
  const T* x = qkv + row * width + head * dim;
  const bool is_q = head < q.heads, is_v = head >= q.heads + k.heads;
  const Target<T> to = is_q ? q : is_v ? v : k;
  const int64_t h = is_q ? head : is_v ? head - q.heads - k.heads : head - q.heads;
  T* out = to.data + b * to.batch_stride + h * to.head_stride + t * to.token_stride;
  if (is_v) {
    for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) out[i] = x[i];
    return;
  }
  const T* norm = is_q ? q_norm : k_norm;
  float scale = 1.0f;
  if (norm != nullptr) {
    float square = 0;
    for (int64_t i = threadIdx.x; i < dim; i += blockDim.x)
      square += static_cast<float>(x[i]) * static_cast<float>(x[i]);
    scale = rsqrtf(block_sum(square) / static_cast<float>(dim) + eps);
  }
  for (int64_t i = threadIdx.x; i < half; i += blockDim.x) {
    float first = static_cast<float>(x[i]), second = static_cast<float>(x[half + i]);
    if (norm != nullptr) {
      first = static_cast<float>(static_cast<T>(static_cast<float>(norm[i]) *
                                                static_cast<float>(static_cast<T>(first * scale))));
      second = static_cast<float>(static_cast<T>(
          static_cast<float>(norm[half + i]) * static_cast<float>(static_cast<T>(second * scale))));
    }
    const float c = cos[b * table_batch_stride + t * half + i],
                s = sin[b * table_batch_stride + t * half + i];
    out[i] = static_cast<T>(first * c - second * s);
    out[half + i] = static_cast<T>(second * c + first * s);
  }
}

// One block a (token, head), as split_kernel: turns the gradient back,
// then through the head's norm.
template <class T>
__global__ void split_backward_kernel(const T* qkv, const float* cos, const float* sin,
                                      int64_t table_batch_stride, const T* q_norm, const T* k_norm,
                                      float eps, int64_t tokens, int64_t dim, int64_t width,
                                      int64_t heads, int64_t kv_heads, Target<T> q, Target<T> k,
                                      Target<T> v, T* d_qkv) {
  extern __shared__ float turned[];  // [dim]
  const int64_t row = blockIdx.x, head = blockIdx.y;
  const int64_t b = row / tokens, t = row % tokens, half = dim / 2;
  T* out = d_qkv + row * width + head * dim;
  const bool is_q = head < heads, is_v = head >= heads + kv_heads;
  const Target<T> from = is_q ? q : is_v ? v : k;
  const int64_t h = is_q ? head : is_v ? head - heads - kv_heads : head - heads;
  if (from.data == nullptr) {
    for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) out[i] = static_cast<T>(0.0f);
    return;
  }
  const T* g = from.data + b * from.batch_stride + h * from.head_stride + t * from.token_stride;
  if (is_v) {
    for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) out[i] = g[i];
    return;
  }
  const T* norm = is_q ? q_norm : k_norm;
  for (int64_t i = threadIdx.x; i < half; i += blockDim.x) {
    const float c = cos[b * table_batch_stride + t * half + i],
                s = sin[b * table_batch_stride + t * half + i];
    const float first = static_cast<float>(g[i]), second = static_cast<float>(g[half + i]);
    turned[i] = first * c + second * s;
    turned[half + i] = second * c - first * s;
  }
  __syncthreads();
  if (norm == nullptr) {
    for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) out[i] = static_cast<T>(turned[i]);
    return;
  }
  const T* x = qkv + row * width + head * dim;
  float square = 0, dot = 0;
  for (int64_t i = threadIdx.x; i < dim; i += blockDim.x) {
    const float value = static_cast<float>(x[i]);
    square += value * value;
    dot += value * static_cast<float>(norm[i]) * turned[i];
  }
  const float scale = rsqrtf(block_sum(square) / static_cast<float>(dim) + eps);
  const float pull = block_sum(dot) * scale * scale * scale / static_cast<float>(dim);
  for (int64_t i = threadIdx.x; i < dim; i += blockDim.x)
    out[i] = static_cast<T>(scale * static_cast<float>(norm[i]) * turned[i] -
                            pull * static_cast<float>(x[i]));
}

}  // namespace

at::Tensor rms_norm_groups(const at::Tensor& x, const at::Tensor& weight, double eps,
                           int64_t weight_rows) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t width = x.size(-1), rows = x.numel() / width;
  at::Tensor y = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
    rms_norm_kernel<scalar_t>
        <<<static_cast<unsigned>(rows), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
            const_cast<scalar_t*>(x.const_data_ptr<scalar_t>()), nullptr,
            weight.const_data_ptr<scalar_t>(), y.data_ptr<scalar_t>(), width,
            static_cast<float>(eps), weight_rows);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

at::Tensor rms_norm_backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy,
                             double eps, int64_t weight_rows) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t width = x.size(-1), rows = x.numel() / width;
  at::Tensor dx = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "rms_norm_backward", [&] {
        rms_norm_backward_kernel<scalar_t>
            <<<static_cast<unsigned>(rows), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
                x.const_data_ptr<scalar_t>(), weight.const_data_ptr<scalar_t>(),
                dy.const_data_ptr<scalar_t>(), dx.data_ptr<scalar_t>(), width,
                static_cast<float>(eps), weight_rows);
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return dx;
}

at::Tensor silu_mul_backward(const at::Tensor& gate_up, const at::Tensor& dy) {
  const c10::cuda::CUDAGuard guard(gate_up.device());
  at::Tensor d = at::empty_like(gate_up);
  const int64_t total = dy.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, gate_up.scalar_type(), "silu_mul_backward", [&] {
        silu_mul_backward_kernel<scalar_t>
            <<<static_cast<unsigned>((total + kThreads - 1) / kThreads), kThreads, 0,
               at::cuda::getCurrentCUDAStream()>>>(gate_up.const_data_ptr<scalar_t>(),
                                                   dy.const_data_ptr<scalar_t>(),
                                                   d.data_ptr<scalar_t>(), total, dy.size(-1));
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return d;
}

at::Tensor split_qkv_rope_backward(const at::Tensor& qkv, const QkvRope& rope, int64_t heads,
                                   int64_t kv_heads, const at::Tensor& d_q, const at::Tensor& d_k,
                                   const at::Tensor& d_v) {
  const c10::cuda::CUDAGuard guard(qkv.device());
  const int64_t tokens = qkv.size(1), rows = qkv.size(0) * tokens,
                dim = qkv.size(2) / (heads + 2 * kv_heads);
  const bool shared = rope.cos.dim() == 2 || rope.cos.size(0) == 1;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(qkv.size(2) / dim));
  const unsigned threads =
      static_cast<unsigned>(std::min<int64_t>(kThreads, (dim / 2 + 31) / 32 * 32));
  at::Tensor out = at::empty_like(qkv);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, qkv.scalar_type(), "split_qkv_rope_backward", [&] {
        const auto norm = [](const at::Tensor& t) {
          return t.defined() ? t.const_data_ptr<scalar_t>() : nullptr;
        };
        split_backward_kernel<scalar_t><<<grid, threads, static_cast<size_t>(dim) * sizeof(float),
                                          at::cuda::getCurrentCUDAStream()>>>(
            qkv.const_data_ptr<scalar_t>(), rope.cos.const_data_ptr<float>(),
            rope.sin.const_data_ptr<float>(), shared ? 0 : tokens * dim / 2, norm(rope.q_norm),
            norm(rope.k_norm), static_cast<float>(rope.eps), tokens, dim, qkv.size(2), heads,
            kv_heads, target_of<scalar_t>(d_q), target_of<scalar_t>(d_k), target_of<scalar_t>(d_v),
            out.data_ptr<scalar_t>());
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                    double eps) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t width = x.size(-1), rows = x.numel() / width;
  at::Tensor y = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
    rms_norm_kernel<scalar_t>
        <<<static_cast<unsigned>(rows), kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
            x.data_ptr<scalar_t>(), delta.defined() ? delta.const_data_ptr<scalar_t>() : nullptr,
            weight.const_data_ptr<scalar_t>(), y.data_ptr<scalar_t>(), width,
            static_cast<float>(eps), 0);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  const c10::cuda::CUDAGuard guard(gate_up.device());
  auto sizes = gate_up.sizes().vec();
  sizes.back() /= 2;
  at::Tensor out = at::empty(sizes, gate_up.options());
  const int64_t total = out.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, gate_up.scalar_type(), "silu_mul", [&] {
    silu_mul_kernel<scalar_t><<<static_cast<unsigned>((total + kThreads - 1) / kThreads), kThreads,
                                0, at::cuda::getCurrentCUDAStream()>>>(
        gate_up.const_data_ptr<scalar_t>(), out.data_ptr<scalar_t>(), total, sizes.back());
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

void split_qkv_rope(const at::Tensor& qkv, const QkvRope& rope, const at::Tensor& q,
                    const at::Tensor& k, const at::Tensor& v) {
  const c10::cuda::CUDAGuard guard(qkv.device());
  const int64_t dim = (q.defined() ? q : k).size(3), tokens = qkv.size(1),
                rows = qkv.size(0) * tokens;
  const bool shared = rope.cos.dim() == 2 || rope.cos.size(0) == 1;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(qkv.size(2) / dim));
  const unsigned threads =
      static_cast<unsigned>(std::min<int64_t>(kThreads, (dim / 2 + 31) / 32 * 32));
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, qkv.scalar_type(), "split_qkv_rope", [&] {
        const auto norm = [](const at::Tensor& t) {
          return t.defined() ? t.const_data_ptr<scalar_t>() : nullptr;
        };
        split_kernel<scalar_t><<<grid, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
            qkv.const_data_ptr<scalar_t>(), rope.cos.const_data_ptr<float>(),
            rope.sin.const_data_ptr<float>(), shared ? 0 : tokens * dim / 2, norm(rope.q_norm),
            norm(rope.k_norm), static_cast<float>(rope.eps), tokens, dim, qkv.size(2),
            target_of<scalar_t>(q), target_of<scalar_t>(k), target_of<scalar_t>(v));
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace kvlingua::cuda
