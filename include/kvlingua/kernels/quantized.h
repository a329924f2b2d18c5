// Weights in four and eight bits.
//
// NF4 is bitsandbytes' (Dettmers et al. 2023, "QLoRA"): the values of a matrix, row after row, in
// blocks of 64; a block has a scale, its largest magnitude ("absmax"), and each value the nearest
// of sixteen codes, two to a byte, the first in the upper half. Double quantisation stores the
// scales in turn: their mean apart, the rest in blocks of 256 against a code of 256 values. All of
// it is bit for bit what bitsandbytes makes on the CPU.
//
// int8 has a scale for each row, again its largest magnitude: value = code * absmax / 127.
//
// A dequantised weight is code * scale in float32, rounded once to the type asked for; the products
// below multiply by exactly that number and add in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace kvlingua {

const std::array<float, 16>& nf4_codebook();  // ascending
// The 256 values of bitsandbytes' dynamic type, float32 [256], ascending.
const at::Tensor& dynamic_codebook();

constexpr int64_t kNf4Block = 64;
constexpr int64_t kNestedBlock = 256;

struct Nf4Scales {
  at::Tensor absmax;         // float32 [blocks], or uint8 [blocks] when quantised themselves:
  at::Tensor nested_absmax;  // float32 [ceil(blocks / 256)]
  at::Tensor nested_map;     // float32 [256]
  float offset = 0;
  int64_t block = kNf4Block;  // values a scale: a power of two from 32

  bool nested() const { return nested_absmax.defined(); }
  int64_t bytes() const;
  Nf4Scales to(at::Device device) const;
};

// values: float32, flat, on the CPU, of whole blocks but for the last; codes uint8 [ceil(n / 2)]
// and absmax float32 [ceil(n / block)] are written.
// An odd last value leaves the byte's lower half 0.
void nf4_quantize(const at::Tensor& values, const at::Tensor& codes, const at::Tensor& absmax,
                  int64_t block = kNf4Block);
// Double quantisation of float32 scales on the CPU.
Nf4Scales nf4_quantize_scales(const at::Tensor& absmax, int64_t block = kNf4Block);
// The float32 scales, whatever they are stored as; on their device.
at::Tensor nf4_scales(const Nf4Scales& scales);
// out: float32, bfloat16 or float16, contiguous, of n values; all on one device.
void nf4_dequantize(const at::Tensor& codes, const Nf4Scales& scales, const at::Tensor& out);

// values float32 [rows, columns] on the CPU -> codes int8 [rows, columns], absmax float32 [rows].
void int8_quantize(const at::Tensor& values, const at::Tensor& codes, const at::Tensor& absmax);
void int8_dequantize(const at::Tensor& codes, const at::Tensor& absmax, const at::Tensor& out);

// Rows of x up to which the fused products below pay on a device.
int64_t fused_rows(at::Device device);
// y = x W^T without W in memory, for a few rows: x [n, columns] float32, bfloat16 or float16, NF4
// codes or int8 codes of W [outputs, columns]; gives [n, outputs] in x's type. NF4: columns a
// multiple of the block.
at::Tensor nf4_product(const at::Tensor& x, const at::Tensor& codes, const Nf4Scales& scales,
                       int64_t outputs);
at::Tensor int8_product(const at::Tensor& x, const at::Tensor& codes, const at::Tensor& absmax);

}  // namespace kvlingua
