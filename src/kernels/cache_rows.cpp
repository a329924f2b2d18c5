// Compiled without contraction of products and sums: the stored numbers are those of the plain
// operations, bit for bit.
#include "kvlingua/kernels/cache_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>

#include "cpu.h"

namespace kvlingua {
namespace {

constexpr int64_t kBlock =
    32;  // rows written together: what is read lies by head, what is written by row

inline __attribute__((always_inline)) void put(float x, float* out) { *out = x; }

// Round to nearest even, NaN stays NaN.
inline __attribute__((always_inline)) void put(float x, uint16_t* out) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  *out = static_cast<uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? 0x7FC0U : rounded);
}

template <class T>
struct Job {
  const float* x;
  int64_t strides[4];  // L, B, H, T
  int64_t layers, heads, tokens, dim;
  const int64_t* index;
  const float *cos, *sin;  // null: copied
  T* out;
};

template <class T>
inline __attribute__((always_inline)) void head(const float* x, const float* cos, const float* sin,
                                                int64_t dim, T* out) {
  if (cos == nullptr) {
    for (int64_t i = 0; i < dim; ++i) put(x[i], out + i);
    return;
  }
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; ++i) put(x[i] * cos[i] - x[half + i] * sin[i], out + i);
  for (int64_t i = 0; i < half; ++i) put(x[half + i] * cos[i] + x[i] * sin[i], out + half + i);
}

template <class T>
inline __attribute__((always_inline)) void rows(const Job<T>& job, int64_t begin, int64_t end) {
  for (int64_t first = begin; first < end; first += kBlock) {
    const int64_t last = std::min(first + kBlock, end);
    for (int64_t l = 0; l < job.layers; ++l) {
      for (int64_t h = 0; h < job.heads; ++h) {
        for (int64_t r = first; r < last; ++r) {
          const int64_t b = job.index[r] / job.tokens, t = job.index[r] % job.tokens;
          const float* x = job.x + l * job.strides[0] + b * job.strides[1] + h * job.strides[2] +
                           t * job.strides[3];
          const int64_t angle = r * (job.dim / 2);
          head(x, job.cos == nullptr ? nullptr : job.cos + angle,
               job.sin == nullptr ? nullptr : job.sin + angle, job.dim,
               job.out + ((r * job.layers + l) * job.heads + h) * job.dim);
        }
      }
    }
  }
}

KVLINGUA_CLONES void float_rows(const Job<float>& job, int64_t begin, int64_t end) {
  rows(job, begin, end);
}
KVLINGUA_CLONES void bfloat_rows(const Job<uint16_t>& job, int64_t begin, int64_t end) {
  rows(job, begin, end);
}

template <class T, class Rows>
void run(const at::Tensor& x, const at::Tensor& index, const at::Tensor& cos, const at::Tensor& sin,
         at::Tensor& out, Rows rows) {
  const Job<T> job{x.const_data_ptr<float>(),
                   {x.stride(0), x.stride(1), x.stride(2), x.stride(3)},
                   x.size(0),
                   x.size(2),
                   x.size(3),
                   x.size(4),
                   index.const_data_ptr<int64_t>(),
                   cos.defined() ? cos.const_data_ptr<float>() : nullptr,
                   sin.defined() ? sin.const_data_ptr<float>() : nullptr,
                   static_cast<T*>(out.mutable_data_ptr())};
  at::parallel_for(0, index.numel(), kBlock,
                   [&](int64_t begin, int64_t end) { rows(job, begin, end); });
}

// The same in plain tensor operations: any device, any type.
at::Tensor formula(const at::Tensor& x, const at::Tensor& index, const at::Tensor& cos,
                   const at::Tensor& sin, at::ScalarType dtype) {
  const int64_t L = x.size(0), B = x.size(1), H = x.size(2), T = x.size(3), D = x.size(4);
  at::Tensor taken =
      x.permute({0, 2, 1, 3, 4}).reshape({L, H, B * T, D}).index_select(2, index.to(x.device()));
  if (cos.defined()) {
    const at::Tensor wide = taken.to(at::kFloat);
    const at::Tensor a = wide.narrow(-1, 0, D / 2), b = wide.narrow(-1, D / 2, D / 2);
    taken = at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
  }
  return taken.permute({2, 0, 1, 3}).to(dtype).contiguous();
}

}  // namespace

at::Tensor cache_rows(const at::Tensor& x, const at::Tensor& index, const at::Tensor& cos,
                      const at::Tensor& sin, at::ScalarType dtype) {
  TORCH_CHECK(x.dim() == 5 && index.dim() == 1 && index.is_cpu() &&
              index.scalar_type() == at::kLong && cos.defined() == sin.defined());
  TORCH_CHECK(!cos.defined() ||
              (cos.is_contiguous() && sin.is_contiguous() && cos.scalar_type() == at::kFloat &&
               cos.numel() == index.numel() * (x.size(4) / 2)));
  if (!x.is_cpu() || x.scalar_type() != at::kFloat || x.stride(4) != 1)
    return formula(x, index, cos, sin, dtype);
  const bool bfloat = dtype == at::kBFloat16;
  at::Tensor out = at::empty({index.numel(), x.size(0), x.size(2), x.size(4)},
                             x.options().dtype(bfloat ? dtype : at::kFloat));
  const at::Tensor where = index.contiguous();
  if (bfloat) {
    run<uint16_t>(x, where, cos, sin, out, bfloat_rows);
  } else {
    run<float>(x, where, cos, sin, out, float_rows);
  }
  return out.to(dtype);
}

}  // namespace kvlingua
