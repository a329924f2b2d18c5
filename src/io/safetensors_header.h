// The JSON header of a safetensors file, parsed as a stream: its size is the file's word alone, so
// no document tree is built, and duplicate keys, which a tree would hide, are seen.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kvlingua/io/safetensors.h"

namespace kvlingua {

inline constexpr uint64_t kMaxSafetensorsHeader =
    100'000'000;  // the limit of the reference implementation
inline constexpr size_t kMaxSafetensorsTensors = 1'000'000;
inline constexpr size_t kMaxSafetensorsRank = 64;
inline constexpr uint64_t kMaxSafetensorsBytes =
    uint64_t{1} << 62;  // of sizes and offsets: sums of two never overflow

// Bytes of a tensor of this dtype and shape (no negative sizes); nullopt when out of range or not
// whole bytes.
std::optional<uint64_t> safetensors_bytes(SafetensorsDtype dtype, std::span<const int64_t> shape);

// Fills tensors and metadata; every view lies in `data`, and the views cover it without gap or
// overlap. Throws Error (kCorrupt).
void parse_safetensors_header(std::string_view header, std::span<const std::byte> data,
                              const std::string& where, SafetensorsFile::Tensors& tensors,
                              std::map<std::string, std::string>& metadata);

}  // namespace kvlingua
