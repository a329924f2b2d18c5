// Stored rows: the numbers of keys and values in a storage type, and back.
//
// Rows are [rows, layers, kv_heads, head_dim] (RLHD). Works on any device, so that a GPU halves the
// bytes before they are copied to the host.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "datasets/pairs/pair_schema.h"

namespace kvlingua {

// Keys and values of some tokens of one model as they are stored. Scales (float32 [R, L, H]) only
// for int8.
struct StoredRows {
  at::Tensor keys, values;
  at::Tensor key_scales, value_scales;

  int64_t count() const { return keys.defined() ? keys.size(0) : 0; }
  int64_t bytes() const;
};

// x: [R, L, H, D] of any floating type. Results are contiguous. `scales` is set for int8 only.
at::Tensor encode_rows(const at::Tensor& x, StorageType type, at::Tensor* scales);
// The inverse, up to rounding; contiguous, of type `dtype`.
at::Tensor decode_rows(const at::Tensor& stored, const at::Tensor& scales, at::ScalarType dtype);

// How far decode(encode(x)) is from x: root mean square of the error over that of x, and the
// largest difference.
struct StorageError {
  double relative_rms = 0.0;
  double max_abs = 0.0;
};
StorageError storage_error(const at::Tensor& x, const at::Tensor& stored, const at::Tensor& scales);

// No cache of a model holds such a number, and the square of one fits no float32: a loss made of it
// is not finite.
constexpr double kLargestUsable = 0x1p50;

// Index of the first number in a contiguous CPU tensor of float, half, bfloat16 (others: none) that
// nothing can be trained on: NaN, infinity, or kLargestUsable and above; -1 when there is none.
// Looks at exponent bits, at memory speed.
int64_t first_unusable(const at::Tensor& x);

}  // namespace kvlingua
