// Blocks of few bits -> floats. Layouts: ggml's block_q4_0 and its relatives; scales of the K types
// are six bits, eight pairs packed in twelve bytes.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kvlingua/io/gguf.h"

namespace kvlingua {
namespace {

struct TypeRow {
  GgufType type;
  std::string_view name;
  int64_t elements, bytes;
};
constexpr std::array kTypes = {
    TypeRow{GgufType::kF32, "F32", 1, 4},       TypeRow{GgufType::kF16, "F16", 1, 2},
    TypeRow{GgufType::kBF16, "BF16", 1, 2},     TypeRow{GgufType::kQ4_0, "Q4_0", 32, 18},
    TypeRow{GgufType::kQ4_1, "Q4_1", 32, 20},   TypeRow{GgufType::kQ5_0, "Q5_0", 32, 22},
    TypeRow{GgufType::kQ5_1, "Q5_1", 32, 24},   TypeRow{GgufType::kQ8_0, "Q8_0", 32, 34},
    TypeRow{GgufType::kQ4_K, "Q4_K", 256, 144}, TypeRow{GgufType::kQ5_K, "Q5_K", 256, 176},
    TypeRow{GgufType::kQ6_K, "Q6_K", 256, 210},
};

const TypeRow& row(GgufType type) {
  return *std::find_if(kTypes.begin(), kTypes.end(),
                       [&](const TypeRow& r) { return r.type == type; });
}

float half(const uint8_t* at) {
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00)  // infinities and what is no number
    return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // 2^112 moves the exponent from half's bias to float's, and makes subnormals normal.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

float brain(const uint8_t* at) {
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// 32 values: the lower halves of sixteen bytes, then the upper ones; a fifth bit of each in `high`.
template <class Write>
void nibbles(const uint8_t* packed, uint32_t high, Write write) {
  for (int i = 0; i < 16; ++i) {
    write(i, (packed[i] & 15) | (high >> i & 1) << 4);
    write(i + 16, packed[i] >> 4 | (high >> (i + 16) & 1) << 4);
  }
}

void plain_32(GgufType type, const uint8_t* block, float* out) {
  const bool with_minimum = type == GgufType::kQ4_1 || type == GgufType::kQ5_1;
  const bool five = type == GgufType::kQ5_0 || type == GgufType::kQ5_1;
  const float scale = half(block), minimum = with_minimum ? half(block + 2) : 0.0F;
  const uint8_t* rest = block + (with_minimum ? 4 : 2);
  uint32_t high = 0;
  if (five) {
    std::memcpy(&high, rest, sizeof high);
    rest += sizeof high;
  }
  const int middle = five ? 16 : 8;
  nibbles(rest, high, [&](int i, uint32_t code) {
    const auto value = static_cast<int>(code);
    out[i] = with_minimum ? scale * static_cast<float>(value) + minimum
                          : scale * static_cast<float>(value - middle);
  });
}

void eight_bits(const uint8_t* block, float* out) {
  const float scale = half(block);
  for (int i = 0; i < 32; ++i)
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

// Scale and minimum of the group'th 32 values of a K block.
struct KScale {
  float scale, minimum;
};
KScale k_scale(const uint8_t* block, int group) {
  const uint8_t* s = block + 4;
  int scale = 0, minimum = 0;
  if (group < 4) {
    scale = s[group] & 63;
    minimum = s[group + 4] & 63;
  } else {
    scale = (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
    minimum = s[group + 4] >> 4 | (s[group] >> 6) << 4;
  }
  return {half(block) * static_cast<float>(scale), half(block + 2) * static_cast<float>(minimum)};
}

void k_four_or_five(const uint8_t* block, bool five, float* out) {
  const uint8_t* high = block + 16;
  const uint8_t* low = block + (five ? 48 : 16);
  for (int group = 0; group < 8; ++group) {
    const KScale k = k_scale(block, group);
    const uint8_t* bytes = low + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) {
      int code = group % 2 == 0 ? bytes[i] & 15 : bytes[i] >> 4;
      if (five) code |= (high[i] >> group & 1) << 4;
      out[32 * group + i] = k.scale * static_cast<float>(code) - k.minimum;
    }
  }
}

void k_six(const uint8_t* block, float* out) {
  const uint8_t *low = block, *high = block + 128, *scales = block + 192;
  const float all = half(block + 208);
  for (int group = 0; group < 8; ++group) {  // of 32; four groups share 64 low and 32 high bytes
    const int part = group / 4, in_part = group % 4;
    const uint8_t* bytes = low + 64 * part + 32 * (in_part % 2);
    for (int i = 0; i < 32; ++i) {
      const int lower = in_part < 2 ? bytes[i] & 15 : bytes[i] >> 4;
      const int code = lower | (high[32 * part + i] >> (2 * in_part) & 3) << 4;
      const float scale = all * static_cast<float>(static_cast<int8_t>(scales[2 * group + i / 16]));
      out[32 * group + i] = scale * static_cast<float>(code - 32);
    }
  }
}

void one_block(GgufType type, const uint8_t* block, float* out) {
  switch (type) {
    case GgufType::kF32:
      std::memcpy(out, block, sizeof *out);
      return;
    case GgufType::kF16:
      *out = half(block);
      return;
    case GgufType::kBF16:
      *out = brain(block);
      return;
    case GgufType::kQ8_0:
      return eight_bits(block, out);
    case GgufType::kQ4_K:
      return k_four_or_five(block, false, out);
    case GgufType::kQ5_K:
      return k_four_or_five(block, true, out);
    case GgufType::kQ6_K:
      return k_six(block, out);
    default:
      return plain_32(type, block, out);
  }
}

}  // namespace

std::string_view to_string(GgufType type) { return row(type).name; }
int64_t block_elements(GgufType type) { return row(type).elements; }
int64_t block_bytes(GgufType type) { return row(type).bytes; }

void dequantize(GgufType type, std::span<const std::byte> blocks, std::span<float> out) {
  const auto elements = static_cast<size_t>(block_elements(type)),
             bytes = static_cast<size_t>(block_bytes(type));
  const size_t n = std::min(blocks.size() / bytes, out.size() / elements);
  const auto* from = reinterpret_cast<const uint8_t*>(blocks.data());
  for (size_t i = 0; i < n; ++i) one_block(type, from + i * bytes, out.data() + i * elements);
}

}  // namespace kvlingua
