// CUDA twins of quantized.cpp. Dequantisation: a thread turns four bytes of codes into eight
// weights. Products of up to 16 rows: a warp an output or four, its lanes side by side along the
// columns; weights are made in registers, rounded to the compute type as dequantisation rounds
// them, and added in float32.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include "nf4_codes.h"
#include "quantized_cuda.h"

namespace kvlingua::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = 4;   // of a block of the product kernels
constexpr int kVector = 8;  // values a lane takes at once
constexpr int kMostRows = 16;

__constant__ float kCodes[16] = {KVLINGUA_NF4_CODES};

struct Scales {
  const float* plain;
  const uint8_t* codes;
  const float* nested;
  const float* map;
  float offset;
  int shift;  // log2 of the block
  __device__ float of_block(int64_t block) const {
    if (plain != nullptr) return plain[block];
    // Rounded after the product, as on the CPU.
    return __fadd_rn(__fmul_rn(map[codes[block]], nested[block / kNestedBlock]), offset);
  }
};

Scales scales_of(const Nf4Scales& s) {
  int shift = 0;
  while ((int64_t{1} << shift) < s.block) ++shift;
  if (!s.nested()) return {s.absmax.const_data_ptr<float>(), nullptr, nullptr, nullptr, 0, shift};
  return {nullptr,
          s.absmax.const_data_ptr<uint8_t>(),
          s.nested_absmax.const_data_ptr<float>(),
          s.nested_map.const_data_ptr<float>(),
          s.offset,
          shift};
}

// Every entry lies in a bank of its own: a warp reads any sixteen codes without conflict.
__device__ void load_codes(float* table) {
  if (threadIdx.x < 16) table[threadIdx.x] = kCodes[threadIdx.x];
  __syncthreads();
}

template <class T>
struct alignas(sizeof(T) * kVector) Eight {
  T value[kVector];
};

// Values of byte i are the upper half of byte i and its lower half.
__device__ int code_of(uint32_t word, int i) {
  const uint32_t byte = word >> (8 * (i / 2));
  return static_cast<int>(i % 2 == 0 ? (byte >> 4) & 15u : byte & 15u);
}

template <class T>
__global__ void nf4_dequantize_kernel(const uint8_t* codes, Scales scales, T* out, int64_t total) {
  __shared__ float table[16];
  load_codes(table);
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kVector;
  if (begin >= total) return;
  const float scale = scales.of_block(begin >> scales.shift);
  if (begin + kVector <= total) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(codes + begin / 2);
    Eight<T> eight;
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      eight.value[i] = static_cast<T>(table[code_of(word, i)] * scale);
    *reinterpret_cast<Eight<T>*>(out + begin) = eight;
    return;
  }
  for (int64_t i = begin; i < total; ++i) {
    const uint32_t byte = codes[i / 2];
    out[i] = static_cast<T>(table[i % 2 == 0 ? byte >> 4 : byte & 15u] * scale);
  }
}

__device__ float int8_weight(int8_t code, float scale) {
  return __fmul_rn(__fmul_rn(static_cast<float>(code), scale), 1.0f / 127.0f);
}

template <class T>
__global__ void int8_dequantize_kernel(const int8_t* codes, const float* absmax, T* out,
                                       int64_t columns) {
  const int64_t row = blockIdx.x;
  const float scale = absmax[row];
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x)
    out[row * columns + i] = static_cast<T>(int8_weight(codes[row * columns + i], scale));
}

// How a product kernel makes eight weights of output o from column `at` on.
template <class T>
struct Nf4Weights {
  const uint8_t* codes;
  Scales scales;
  int64_t columns;
  __device__ void eight(const float* table, int64_t o, int64_t at, float* w) const {
    const int64_t flat = o * columns + at;
    const float scale = scales.of_block(flat >> scales.shift);
    const uint32_t word = __ldg(reinterpret_cast<const uint32_t*>(codes + flat / 2));
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      w[i] = static_cast<float>(static_cast<T>(table[code_of(word, i)] * scale));
  }
};

template <class T>
struct Int8Weights {
  const int8_t* codes;
  const float* absmax;
  int64_t columns;
  __device__ void eight(const float*, int64_t o, int64_t at, float* w) const {
    const float scale = absmax[o];
    const Eight<int8_t> packed = *reinterpret_cast<const Eight<int8_t>*>(codes + o * columns + at);
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      w[i] = static_cast<float>(static_cast<T>(int8_weight(packed.value[i], scale)));
  }
};

// columns is a multiple of kVector. A warp makes kOutputs outputs of kRows rows.
template <class T, class Weights, int kRows, int kOutputs>
__global__ void product_kernel(const T* x, Weights weights, T* y, int64_t columns, int64_t outputs,
                               int rows) {
  __shared__ float table[16];
  load_codes(table);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kWarps + warp) * kOutputs;
  if (first >= outputs) return;
  float sum[kOutputs][kRows] = {};
  for (int64_t at = lane * kVector; at < columns; at += 32 * kVector) {
    float w[kOutputs][kVector];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o)
      weights.eight(table, first + o < outputs ? first + o : outputs - 1, at, w[o]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
      const Eight<T> in = *reinterpret_cast<const Eight<T>*>(x + r * columns + at);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float value = static_cast<float>(in.value[i]);
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) sum[o][r] += value * w[o][i];
      }
    }
  }
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float total = sum[o][r];
      for (int offset = 16; offset > 0; offset /= 2)
        total += __shfl_down_sync(0xffffffffu, total, offset);
      if (lane == 0 && r < rows && first + o < outputs)
        y[r * outputs + first + o] = static_cast<T>(total);
    }
  }
}

template <class T, class Weights, int kRows, int kOutputs>
void launch(const at::Tensor& x, const Weights& weights, const at::Tensor& y) {
  const int64_t outputs = y.size(1);
  const int64_t a_block = kWarps * kOutputs;
  product_kernel<T, Weights, kRows, kOutputs>
      <<<static_cast<unsigned>((outputs + a_block - 1) / a_block), kWarps * 32, 0,
         at::cuda::getCurrentCUDAStream()>>>(x.const_data_ptr<T>(), weights,
                                             y.mutable_data_ptr<T>(), x.size(1), outputs,
                                             static_cast<int>(x.size(0)));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class T, class Weights>
void product(const at::Tensor& x, const Weights& weights, const at::Tensor& y) {
  const int64_t rows = x.size(0);
  if (rows <= 1) return launch<T, Weights, 1, 2>(x, weights, y);
  if (rows <= 4) return launch<T, Weights, 4, 2>(x, weights, y);
  if (rows <= 8) return launch<T, Weights, 8, 2>(x, weights, y);
  launch<T, Weights, kMostRows, 2>(x, weights, y);
}

}  // namespace

void nf4_dequantize(const at::Tensor& codes, const Nf4Scales& scales, const at::Tensor& out) {
  const int64_t total = out.numel();
  if (total == 0) return;
  const c10::cuda::CUDAGuard guard(out.device());
  const int64_t a_block = kThreads * kVector;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, out.scalar_type(), "nf4_dequantize", [&] {
        nf4_dequantize_kernel<scalar_t><<<static_cast<unsigned>((total + a_block - 1) / a_block),
                                          kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
            codes.const_data_ptr<uint8_t>(), scales_of(scales), out.mutable_data_ptr<scalar_t>(),
            total);
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void int8_dequantize(const at::Tensor& codes, const at::Tensor& absmax, const at::Tensor& out) {
  if (out.numel() == 0) return;
  const c10::cuda::CUDAGuard guard(out.device());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, out.scalar_type(), "int8_dequantize", [&] {
        int8_dequantize_kernel<scalar_t><<<static_cast<unsigned>(codes.size(0)), kThreads, 0,
                                           at::cuda::getCurrentCUDAStream()>>>(
            codes.const_data_ptr<int8_t>(), absmax.const_data_ptr<float>(),
            out.mutable_data_ptr<scalar_t>(), codes.size(1));
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

at::Tensor nf4_product(const at::Tensor& x, const at::Tensor& codes, const Nf4Scales& scales,
                       int64_t outputs) {
  TORCH_CHECK(x.size(0) <= kMostRows && x.size(1) % kVector == 0);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor in = x.contiguous(), y = at::empty({x.size(0), outputs}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "nf4_product", [&] {
    product<scalar_t>(
        in, Nf4Weights<scalar_t>{codes.const_data_ptr<uint8_t>(), scales_of(scales), x.size(1)}, y);
  });
  return y;
}

at::Tensor int8_product(const at::Tensor& x, const at::Tensor& codes, const at::Tensor& absmax) {
  TORCH_CHECK(x.size(0) <= kMostRows && x.size(1) % kVector == 0);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor in = x.contiguous(), y = at::empty({x.size(0), codes.size(0)}, x.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "int8_product", [&] {
    product<scalar_t>(in,
                      Int8Weights<scalar_t>{codes.const_data_ptr<int8_t>(),
                                            absmax.const_data_ptr<float>(), x.size(1)},
                      y);
  });
  return y;
}

}  // namespace kvlingua::cuda
