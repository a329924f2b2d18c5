// Single passes over large matrices: means and centring of float32 rows, and sums of float32
// products in float64.
#pragma once

#include <ATen/core/Tensor.h>

namespace kvlingua {

// x [N, C] float32 with a contiguous last dimension; its columns' means in float64 [C].
at::Tensor column_means(const at::Tensor& x);

// out [N, C] float32 (a contiguous last dimension) = x - mean, mean [C] float64. square [C] float64
// or undefined: gains the sum over rows of the squares of what is written.
void centre_columns(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& out,
                    const at::Tensor& square);

// sum [A, B] float64 += x [A, B] float32; last dimensions contiguous.
void add_to_double(const at::Tensor& sum, const at::Tensor& x);

}  // namespace kvlingua
