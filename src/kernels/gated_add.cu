// CUDA twin of gated_add: one warp a (kv, layer, batch, token, head). Arithmetic in float32,
// rounded to the tensors' type where the formula rounds.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include "gated_add.h"

namespace kvlingua::cuda {
namespace {

constexpr int kWarps = 8;  // a block

template <class T>
struct Pointers {
  const T *projected, *score, *noise, *logit, *temperature;
};

template <class T>
__device__ float rounded(float x) {
  return static_cast<float>(static_cast<T>(x));
}

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Which head of which row a warp has, and where its channels begin in cache layout.
struct Place {
  int64_t tower, kv, offset;
};
__device__ Place place_of(int64_t index, const GatedAddSizes& s) {
  const int64_t head = index % s.heads, token = index / s.heads % s.tokens;
  const int64_t b = index / s.heads / s.tokens % s.batch,
                tower = index / s.heads / s.tokens / s.batch;
  const int64_t layer = tower % s.layers;
  return {tower, tower / s.layers,
          (((layer * s.batch + b) * s.heads + head) * s.tokens + token) * s.dim};
}

template <class T>
__device__ float gate_of(const Pointers<T>& p, int64_t index, int64_t tower, int64_t layers) {
  const float sum =
      rounded<T>(static_cast<float>(p.logit[tower]) + static_cast<float>(p.noise[index]));
  return rounded<T>(sigmoid(rounded<T>(sum / static_cast<float>(p.temperature[tower % layers]))));
}

template <class T>
__global__ void forward_kernel(Pointers<T> p, GatedAddSizes s, int64_t count, const T* keys,
                               const T* values, T* out_keys, T* out_values) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= count) return;
  const Place at = place_of(index, s);
  const float weight = rounded<T>(sigmoid(static_cast<float>(p.score[index])));
  const float factor = rounded<T>(gate_of(p, index, at.tower, s.layers) * weight);
  const T* target = (at.kv == 0 ? keys : values) + at.offset;
  T* out = (at.kv == 0 ? out_keys : out_values) + at.offset;
  const T* projected = p.projected + index * s.dim;
  for (int64_t d = threadIdx.x % 32; d < s.dim; d += 32) {
    const float product = rounded<T>(factor * static_cast<float>(projected[d]));
    out[d] = static_cast<T>(static_cast<float>(target[d]) + product);
  }
}

template <class T>
__global__ void backward_kernel(Pointers<T> p, GatedAddSizes s, int64_t count, const T* d_keys,
                                const T* d_values, T* d_projected, T* d_score, float* d_gate) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= count) return;
  const Place at = place_of(index, s);
  const float weight = rounded<T>(sigmoid(static_cast<float>(p.score[index])));
  const float gate = gate_of(p, index, at.tower, s.layers), factor = rounded<T>(gate * weight);
  const T* gradient = (at.kv == 0 ? d_keys : d_values) + at.offset;
  const T* projected = p.projected + index * s.dim;
  float dot = 0;
  for (int64_t d = threadIdx.x % 32; d < s.dim; d += 32) {
    const float g = static_cast<float>(gradient[d]);
    d_projected[index * s.dim + d] = static_cast<T>(factor * g);
    dot += g * static_cast<float>(projected[d]);
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) dot += __shfl_down_sync(0xffffffffu, dot, lanes);
  if (threadIdx.x % 32 != 0) return;
  d_score[index] = static_cast<T>(dot * gate * weight * (1.0f - weight));
  d_gate[index] =
      dot * weight * gate * (1.0f - gate) / static_cast<float>(p.temperature[at.tower % s.layers]);
}

template <class T>
Pointers<T> pointers(const GatedAdd& in) {
  return {in.projected.const_data_ptr<T>(), in.score.const_data_ptr<T>(),
          in.noise.const_data_ptr<T>(), in.logit.const_data_ptr<T>(),
          in.temperature.const_data_ptr<T>()};
}

unsigned blocks(int64_t count) { return static_cast<unsigned>((count + kWarps - 1) / kWarps); }

}  // namespace

void gated_add_forward(const GatedAdd& in, const at::Tensor& keys, const at::Tensor& values) {
  const c10::cuda::CUDAGuard guard(in.keys.device());
  const int64_t count = in.score.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, in.keys.scalar_type(), "gated_add", [&] {
        forward_kernel<scalar_t>
            <<<blocks(count), 32 * kWarps, 0, at::cuda::getCurrentCUDAStream()>>>(
                pointers<scalar_t>(in), GatedAddSizes::of(in), count,
                in.keys.const_data_ptr<scalar_t>(), in.values.const_data_ptr<scalar_t>(),
                keys.data_ptr<scalar_t>(), values.data_ptr<scalar_t>());
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void gated_add_backward(const GatedAdd& in, const at::Tensor& d_keys, const at::Tensor& d_values,
                        const at::Tensor& d_projected, const at::Tensor& d_score,
                        const at::Tensor& d_gate) {
  const c10::cuda::CUDAGuard guard(in.projected.device());
  const int64_t count = in.score.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, in.projected.scalar_type(), "gated_add_backward", [&] {
        backward_kernel<scalar_t>
            <<<blocks(count), 32 * kWarps, 0, at::cuda::getCurrentCUDAStream()>>>(
                pointers<scalar_t>(in), GatedAddSizes::of(in), count,
                d_keys.const_data_ptr<scalar_t>(), d_values.const_data_ptr<scalar_t>(),
                d_projected.data_ptr<scalar_t>(), d_score.data_ptr<scalar_t>(),
                d_gate.data_ptr<float>());
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace kvlingua::cuda
