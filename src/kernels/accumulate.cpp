#include "kvlingua/kernels/accumulate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu.h"

namespace kvlingua {
namespace {

constexpr int64_t kColumns = 512;  // of a strip: its float64 sums stay near
constexpr int64_t kRows = 32;      // whose squares are added in float32 before they go into float64

struct Matrix {
  const float* data;
  int64_t rows, stride;
};

Matrix matrix(const at::Tensor& x) { return {x.const_data_ptr<float>(), x.size(0), x.stride(0)}; }

// In float64 from the start: a channel's mean may be far larger than what it varies by.
KVLINGUA_CLONES void sum_strip(const Matrix& x, int64_t begin, int64_t width, double* sums) {
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* row = x.data + r * x.stride + begin;
    for (int64_t c = 0; c < width; ++c) sums[c] += static_cast<double>(row[c]);
  }
}

KVLINGUA_CLONES void centre_strip(const Matrix& x, int64_t begin, int64_t width, const double* mean,
                                  float* out, int64_t out_stride, double* square) {
  float partial[kColumns], centre[kColumns];
  for (int64_t c = 0; c < width; ++c) centre[c] = static_cast<float>(mean[c]);
  for (int64_t first = 0; first < x.rows; first += kRows) {
    const int64_t last = std::min(first + kRows, x.rows);
    std::fill_n(partial, width, 0.0f);
    for (int64_t r = first; r < last; ++r) {
      const float* row = x.data + r * x.stride + begin;
      float* to = out + r * out_stride + begin;
      for (int64_t c = 0; c < width; ++c) {
        const float value = row[c] - centre[c];
        to[c] = value;
        partial[c] += value * value;
      }
    }
    if (square == nullptr) continue;
    for (int64_t c = 0; c < width; ++c) square[c] += static_cast<double>(partial[c]);
  }
}

KVLINGUA_CLONES void add_rows(double* sum, int64_t sum_stride, const float* x, int64_t x_stride,
                              int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r) {
    double* to = sum + r * sum_stride;
    const float* from = x + r * x_stride;
    for (int64_t c = 0; c < width; ++c) to[c] += static_cast<double>(from[c]);
  }
}

bool plain(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.stride(1) == 1;
}

template <class Work>
void over_strips(int64_t columns, Work work) {
  const int64_t strips = (columns + kColumns - 1) / kColumns;
  at::parallel_for(0, strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      work(s * kColumns, std::min(kColumns, columns - s * kColumns));
  });
}

}  // namespace

at::Tensor column_means(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 2);
  if (!plain(x)) return x.mean(0, false, at::kDouble);
  at::Tensor sums = at::zeros({x.size(1)}, x.options().dtype(at::kDouble));
  const Matrix m = matrix(x);
  double* out = sums.mutable_data_ptr<double>();
  over_strips(x.size(1),
              [&](int64_t begin, int64_t width) { sum_strip(m, begin, width, out + begin); });
  return sums.div_(static_cast<double>(x.size(0)));
}

void centre_columns(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& out,
                    const at::Tensor& square) {
  TORCH_CHECK(x.dim() == 2 && out.sizes() == x.sizes() && mean.numel() == x.size(1));
  if (!plain(x) || !plain(out)) {
    at::Tensor(out).copy_(x - mean.to(at::kFloat));
    if (square.defined()) at::Tensor(square).add_(out.square().sum(0, false, at::kDouble));
    return;
  }
  const Matrix m = matrix(x);
  const at::Tensor centre = mean.contiguous();
  const double* means = centre.const_data_ptr<double>();
  float* to = out.mutable_data_ptr<float>();
  TORCH_CHECK(!square.defined() || square.is_contiguous());
  double* squares = square.defined() ? square.mutable_data_ptr<double>() : nullptr;
  over_strips(x.size(1), [&](int64_t begin, int64_t width) {
    centre_strip(m, begin, width, means + begin, to, out.stride(0),
                 squares == nullptr ? nullptr : squares + begin);
  });
}

void add_to_double(const at::Tensor& sum, const at::Tensor& x) {
  TORCH_CHECK(sum.dim() == 2 && x.sizes() == sum.sizes());
  if (!plain(x) || sum.stride(1) != 1) {
    at::Tensor(sum).add_(x);
    return;
  }
  double* to = sum.mutable_data_ptr<double>();
  const float* from = x.const_data_ptr<float>();
  at::parallel_for(0, sum.size(0), 64, [&](int64_t begin, int64_t end) {
    add_rows(to + begin * sum.stride(0), sum.stride(0), from + begin * x.stride(0), x.stride(0),
             end - begin, x.size(1));
  });
}

}  // namespace kvlingua
