// This file is compiled without contraction: a product and a sum round apart, as in bitsandbytes.
#include "kvlingua/kernels/quantized.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cpu.h"
#include "nf4_codes.h"
#include "quantized_cuda.h"

namespace kvlingua {
namespace {

// The code of a scaled value is the number of these it lies above.
std::array<float, 15> midpoints() {
  std::array<float, 15> between{};
  for (size_t i = 0; i < between.size(); ++i)
    between[i] = (nf4_codebook()[i] + nf4_codebook()[i + 1]) / 2;
  return between;
}

KVLINGUA_CLONES float largest_magnitude(const float* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float magnitude = std::fabs(x[i + j]);
      lanes[j] = magnitude > lanes[j] ? magnitude : lanes[j];
    }
  }
  float most = 0;
  for (; i < n; ++i) most = std::max(most, std::fabs(x[i]));
  for (const float lane : lanes) most = std::max(most, lane);
  return most;
}

KVLINGUA_CLONES void nearest_codes(const float* x, int64_t n, float inverse, const float* between,
                                   uint8_t* codes) {
  for (int64_t i = 0; i < n; ++i) {
    float value = x[i] * inverse;
    value = value < -1.0f ? -1.0f : value;
    value = value > 1.0f ? 1.0f : value;
    int code = 0;
    for (int j = 0; j < 15; ++j) code += value > between[j] ? 1 : 0;
    codes[i] = static_cast<uint8_t>(code);
  }
}

// bitsandbytes' CPU library looks the code of a scaled value in [-1, 1] up in a table of 2^16
// steps. The same table is used here: without it a scale near the middle of two codes would get the
// other one.
constexpr int kSteps = 1 << 16;
std::vector<uint8_t> nearest_dynamic_codes() {
  const float* map = dynamic_codebook().const_data_ptr<float>();
  std::vector<uint8_t> codes(kSteps);
  uint8_t code = 0;
  for (int i = 0; i < kSteps; ++i) {
    const float value = 2.0f * static_cast<float>(i) / static_cast<float>(kSteps - 1) - 1.0f;
    while (code < 255 && value > (map[code] + map[code + 1]) * 0.5f) ++code;
    codes[static_cast<size_t>(i)] = code;
  }
  return codes;
}

// Two values for every byte of codes.
struct PairTable {
  float pair[256][2];
  PairTable() {
    for (size_t byte = 0; byte < 256; ++byte) {
      pair[byte][0] = nf4_codebook()[byte >> 4];
      pair[byte][1] = nf4_codebook()[byte & 15];
    }
  }
};
const PairTable& pair_table() {
  static const PairTable table;
  return table;
}

KVLINGUA_CLONES void scaled_pairs(const uint8_t* codes, int64_t pairs, float scale,
                                  const float (*table)[2], float* out) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float* pair = table[codes[i]];
    out[2 * i] = pair[0] * scale;
    out[2 * i + 1] = pair[1] * scale;
  }
}

// Scales of single blocks, whatever they are stored as.
class ScaleReader {
 public:
  explicit ScaleReader(const Nf4Scales& scales) : offset_(scales.offset) {
    if (!scales.nested()) {
      plain_ = scales.absmax.const_data_ptr<float>();
      return;
    }
    codes_ = scales.absmax.const_data_ptr<uint8_t>();
    nested_ = scales.nested_absmax.const_data_ptr<float>();
    map_ = scales.nested_map.const_data_ptr<float>();
  }
  float operator[](int64_t block) const {
    if (plain_ != nullptr) return plain_[block];
    return map_[codes_[block]] * nested_[block / kNestedBlock] + offset_;
  }

 private:
  const float *plain_ = nullptr, *nested_ = nullptr, *map_ = nullptr;
  const uint8_t* codes_ = nullptr;
  float offset_;
};

// Values [begin, begin + n) of a matrix; begin is even.
void dequantize_run(const uint8_t* codes, const ScaleReader& scales, int64_t block, int64_t begin,
                    int64_t n, float* out) {
  const auto* table = pair_table().pair;
  const int64_t end = begin + n;
  for (int64_t at = begin; at < end;) {
    const int64_t stop = std::min(end, (at / block + 1) * block);
    const float scale = scales[at / block];
    scaled_pairs(codes + at / 2, (stop - at) / 2, scale, table, out + (at - begin));
    if ((stop - at) % 2 != 0)  // an odd number of values altogether
      out[stop - 1 - begin] = table[codes[stop / 2]][0] * scale;
    at = stop;
  }
}

KVLINGUA_CLONES void scaled_bytes(const int8_t* codes, int64_t n, float scale, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale * (1.0f / 127.0f);
}

template <class T>
void store(const float* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]);
}

// Calls run(begin, n, float*) for pieces of `unit` values and rounds what it writes to out's type.
template <class Run>
void fill(const at::Tensor& out, int64_t unit, Run run) {
  const int64_t total = out.numel();
  const int64_t piece = std::max<int64_t>(1, 8192 / unit) * unit;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, out.scalar_type(), "dequantize", [&] {
    auto* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, (total + piece - 1) / piece, 4, [&](int64_t first, int64_t last) {
      std::vector<float> buffer(std::is_same_v<scalar_t, float> ? 0 : static_cast<size_t>(piece));
      for (int64_t p = first; p < last; ++p) {
        const int64_t begin = p * piece, n = std::min(piece, total - begin);
        if constexpr (std::is_same_v<scalar_t, float>) {
          run(begin, n, to + begin);
        } else {
          run(begin, n, buffer.data());
          store(buffer.data(), n, to + begin);
        }
      }
    });
  });
}

KVLINGUA_CLONES float dot(const float* a, const float* b, int64_t n) {
  return cpu::lane_sum(n, [&](int64_t i) { return a[i] * b[i]; });
}

// y[r][o] = sum of x[r] and row(o), which is written where it is told to.
template <class Row>
at::Tensor few_rows(const at::Tensor& x, int64_t outputs, Row row) {
  const int64_t rows = x.size(0), columns = x.size(1);
  const at::Tensor wide = x.to(at::kFloat).contiguous();
  const at::Tensor y = at::empty({rows, outputs}, wide.options());
  const float* in = wide.const_data_ptr<float>();
  auto* out = y.mutable_data_ptr<float>();
  const at::ScalarType type = x.scalar_type();
  at::parallel_for(0, outputs, std::max<int64_t>(1, 65536 / columns),
                   [&](int64_t first, int64_t last) {
                     std::vector<float> weight(static_cast<size_t>(columns));
                     for (int64_t o = first; o < last; ++o) {
                       row(o, weight.data());
                       if (type == at::kBFloat16) {
                         for (float& w : weight) w = static_cast<float>(at::BFloat16(w));
                       } else if (type == at::kHalf) {
                         for (float& w : weight) w = static_cast<float>(at::Half(w));
                       }
                       for (int64_t r = 0; r < rows; ++r)
                         out[r * outputs + o] = dot(in + r * columns, weight.data(), columns);
                     }
                   });
  return y.to(type);
}

void check_codes(const at::Tensor& codes, const Nf4Scales& scales, int64_t n) {
  TORCH_CHECK(codes.scalar_type() == at::kByte && codes.is_contiguous() &&
              codes.numel() == (n + 1) / 2);
  TORCH_CHECK(scales.block >= 32 && (scales.block & (scales.block - 1)) == 0);
  TORCH_CHECK(scales.absmax.is_contiguous() &&
              scales.absmax.numel() == (n + scales.block - 1) / scales.block);
}

}  // namespace

const std::array<float, 16>& nf4_codebook() {
  static constexpr std::array<float, 16> kCodes = {KVLINGUA_NF4_CODES};
  return kCodes;
}

const at::Tensor& dynamic_codebook() {
  // Seven decades, each with twice as many steps as the one below (Dettmers 2016).
  static const at::Tensor codes = [] {
    std::vector<at::Tensor> parts{at::tensor({0.0f, 1.0f})};
    for (int i = 0; i < 7; ++i) {
      const at::Tensor bounds = at::linspace(0.1, 1, (1 << i) + 1, at::kFloat);
      const at::Tensor means = (bounds.slice(0, 0, -1) + bounds.slice(0, 1)) / 2.0;
      parts.push_back(means * std::pow(10.0, i - 6));
      parts.push_back(means * -std::pow(10.0, i - 6));
    }
    return std::get<0>(at::sort(at::cat(parts)));
  }();
  return codes;
}

int64_t Nf4Scales::bytes() const {
  int64_t total = 0;
  for (const at::Tensor* t : {&absmax, &nested_absmax, &nested_map})
    if (t->defined()) total += static_cast<int64_t>(t->nbytes());
  return total;
}

Nf4Scales Nf4Scales::to(at::Device device) const {
  const auto there = [&](const at::Tensor& t) { return t.defined() ? t.to(device) : t; };
  return {there(absmax), there(nested_absmax), there(nested_map), offset, block};
}

void nf4_quantize(const at::Tensor& values, const at::Tensor& codes, const at::Tensor& absmax,
                  int64_t block) {
  const int64_t n = values.numel(), blocks = (n + block - 1) / block;
  check_codes(codes, {absmax, {}, {}, 0, block}, n);
  static const std::array<float, 15> between = midpoints();
  const float* x = values.const_data_ptr<float>();
  auto* packed = codes.mutable_data_ptr<uint8_t>();
  auto* scale = absmax.mutable_data_ptr<float>();
  at::parallel_for(0, blocks, 1024, [&](int64_t first, int64_t last) {
    std::vector<uint8_t> code(static_cast<size_t>(block));
    for (int64_t b = first; b < last; ++b) {
      const int64_t begin = b * block, count = std::min(block, n - begin);
      scale[b] = largest_magnitude(x + begin, count);
      nearest_codes(x + begin, count, 1.0f / std::max(scale[b], 1e-38f), between.data(),
                    code.data());
      if (count % 2 != 0) code[static_cast<size_t>(count)] = 0;
      for (int64_t i = 0; i < count; i += 2) {
        packed[(begin + i) / 2] = static_cast<uint8_t>(code[static_cast<size_t>(i)] << 4 |
                                                       code[static_cast<size_t>(i) + 1]);
      }
    }
  });
}

Nf4Scales nf4_quantize_scales(const at::Tensor& absmax, int64_t block) {
  Nf4Scales out;
  out.block = block;
  out.nested_map = dynamic_codebook();
  const at::Tensor mean = absmax.mean();
  out.offset = mean.item<float>();
  const at::Tensor rest = absmax - mean;
  const int64_t n = rest.numel(), blocks = (n + kNestedBlock - 1) / kNestedBlock;
  out.absmax = at::empty({n}, at::kByte);
  out.nested_absmax = at::empty({blocks}, at::kFloat);
  const float* x = rest.const_data_ptr<float>();
  static const std::vector<uint8_t> nearest = nearest_dynamic_codes();
  auto* codes = out.absmax.mutable_data_ptr<uint8_t>();
  auto* scale = out.nested_absmax.mutable_data_ptr<float>();
  at::parallel_for(0, blocks, 64, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t begin = b * kNestedBlock, end = std::min(n, begin + kNestedBlock);
      scale[b] = largest_magnitude(x + begin, end - begin);
      const float inverse = 1.0f / scale[b];
      for (int64_t i = begin; i < end; ++i) {
        const float value = scale[b] == 0 ? -1.0f : std::clamp(x[i] * inverse, -1.0f, 1.0f);
        const double step = static_cast<double>((value + 1.0f) * 0.5f) * (kSteps - 1) + 0.5;
        codes[i] = nearest[static_cast<size_t>(static_cast<float>(step))];
      }
    }
  });
  return out;
}

at::Tensor nf4_scales(const Nf4Scales& s) {
  if (!s.nested()) return s.absmax;
  const at::Tensor blocks =
      s.nested_absmax.repeat_interleave(kNestedBlock).narrow(0, 0, s.absmax.numel());
  return s.nested_map.index_select(0, s.absmax.to(at::kLong)) * blocks + s.offset;
}

void nf4_dequantize(const at::Tensor& codes, const Nf4Scales& scales, const at::Tensor& out) {
  check_codes(codes, scales, out.numel());
  TORCH_CHECK(out.is_contiguous());
#ifdef KVLINGUA_CUDA
  if (out.is_cuda()) return cuda::nf4_dequantize(codes, scales, out);
#endif
  const ScaleReader reader(scales);
  const auto* packed = codes.const_data_ptr<uint8_t>();
  fill(out, scales.block, [&](int64_t begin, int64_t n, float* to) {
    dequantize_run(packed, reader, scales.block, begin, n, to);
  });
}

void int8_quantize(const at::Tensor& values, const at::Tensor& codes, const at::Tensor& absmax) {
  const int64_t rows = values.size(0), columns = values.size(1);
  const float* x = values.const_data_ptr<float>();
  auto* code = codes.mutable_data_ptr<int8_t>();
  auto* scale = absmax.mutable_data_ptr<float>();
  at::parallel_for(
      0, rows, std::max<int64_t>(1, 65536 / columns), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
          const float* row = x + r * columns;
          scale[r] = largest_magnitude(row, columns);
          const float factor = scale[r] > 0 ? 127.0f / scale[r] : 0.0f;
          for (int64_t i = 0; i < columns; ++i)
            code[r * columns + i] = static_cast<int8_t>(std::nearbyintf(row[i] * factor));
        }
      });
}

void int8_dequantize(const at::Tensor& codes, const at::Tensor& absmax, const at::Tensor& out) {
  const int64_t rows = codes.size(0), columns = codes.size(1);
  TORCH_CHECK(codes.scalar_type() == at::kChar && codes.is_contiguous() && out.is_contiguous() &&
              out.numel() == codes.numel() && absmax.numel() == rows);
#ifdef KVLINGUA_CUDA
  if (out.is_cuda()) return cuda::int8_dequantize(codes, absmax, out);
#endif
  const auto* code = codes.const_data_ptr<int8_t>();
  const float* scale = absmax.const_data_ptr<float>();
  fill(out, columns, [&](int64_t begin, int64_t n, float* to) {
    for (int64_t r = begin / columns; r * columns < begin + n; ++r)
      scaled_bytes(code + r * columns, columns, scale[r], to + r * columns - begin);
  });
}

int64_t fused_rows(at::Device device) { return device.is_cuda() ? 16 : 4; }

at::Tensor nf4_product(const at::Tensor& x, const at::Tensor& codes, const Nf4Scales& scales,
                       int64_t outputs) {
  const int64_t columns = x.size(1);
  check_codes(codes, scales, outputs * columns);
  TORCH_CHECK(columns % scales.block == 0);
#ifdef KVLINGUA_CUDA
  if (x.is_cuda()) return cuda::nf4_product(x, codes, scales, outputs);
#endif
  const ScaleReader reader(scales);
  const auto* packed = codes.const_data_ptr<uint8_t>();
  return few_rows(x, outputs, [&](int64_t o, float* weight) {
    dequantize_run(packed, reader, scales.block, o * columns, columns, weight);
  });
}

at::Tensor int8_product(const at::Tensor& x, const at::Tensor& codes, const at::Tensor& absmax) {
  TORCH_CHECK(codes.size(1) == x.size(1));
#ifdef KVLINGUA_CUDA
  if (x.is_cuda()) return cuda::int8_product(x, codes, absmax);
#endif
  const auto* code = codes.const_data_ptr<int8_t>();
  const float* scale = absmax.const_data_ptr<float>();
  return few_rows(x, codes.size(0), [&](int64_t o, float* weight) {
    scaled_bytes(code + o * x.size(1), x.size(1), scale[o], weight);
  });
}

}  // namespace kvlingua
