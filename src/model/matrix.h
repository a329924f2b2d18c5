// Matrix: one projection of a decoder, as floats or as codes with scales (kernels/quantized.h).
//
// A quantised matrix is what its dequantised twin is, in less memory: a product writes the floats
// into one scratch matrix that all layers share, or makes them in registers for a few rows. In a
// differentiable pass it keeps its codes alone and makes the floats again on the way back.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kvlingua/kernels/quantized.h"
#include "kvlingua/model/weight_format.h"

namespace kvlingua {

// Some rows of a matrix that were one matrix in the file: q, k or v.
struct QuantizedPart {
  WeightFormat format = WeightFormat::kNf4;
  int64_t rows = 0, columns = 0;
  // uint8 [rows * columns / 2], int8 [rows, columns], or the floats of a dense one.
  at::Tensor codes;
  Nf4Scales scales;  // int8: absmax alone, [rows]

  int64_t bytes() const;
  // out [rows, columns], on the part's device.
  void dequantize(const at::Tensor& out) const;
  bool can_fuse() const;
  void to(at::Device device);
};

// Codes of float32 values [rows, columns] on the CPU, as part.format says.
void quantize(const at::Tensor& values, const WeightOptions& options, QuantizedPart& part);

// The one matrix that products dequantise into; grows to the largest asked for.
class Scratch {
 public:
  // Holds the scratch for as long as it lives.
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }
  at::Tensor room(int64_t rows, int64_t columns, const at::TensorOptions& options);

 private:
  std::mutex mutex_;
  at::Tensor memory_;
};

class Matrix {
 public:
  using Parts = std::vector<std::shared_ptr<QuantizedPart>>;

  Matrix() = default;
  Matrix(at::Tensor dense) : dense_(std::move(dense)) {}  // NOLINT: a tensor is a matrix
  // Parts may be filled later.
  Matrix(Parts parts, std::shared_ptr<Scratch> scratch)
      : parts_(std::move(parts)), scratch_(std::move(scratch)) {}

  bool quantized() const { return !parts_.empty(); }
  const at::Tensor& dense() const { return dense_; }  // undefined when quantised
  int64_t size(int64_t dim) const;
  // Rows alone (dim 0); of a quantised matrix whole parts.
  Matrix narrow(int64_t dim, int64_t begin, int64_t n) const;
  at::Tensor dequantized(at::ScalarType type) const;  // a copy

  // y = x W^T + bias, without a gradient.
  at::Tensor product(const at::Tensor& x, const at::Tensor& bias) const;
  // dx = dy W
  at::Tensor back(const at::Tensor& dy) const;

 private:
  at::Tensor into_scratch(at::ScalarType type) const;  // under the lock

  at::Tensor dense_;
  Parts parts_;
  std::shared_ptr<Scratch> scratch_;
};

// kernels/dense.h for any matrix; differentiable in x, and for a dense matrix in all.
at::Tensor dense(const at::Tensor& x, const Matrix& weight, const at::Tensor& bias = {});

}  // namespace kvlingua
