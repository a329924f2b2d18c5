// GGUF files, read only: typed metadata and named tensors, many of them in blocks of few bits
// (github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3, little-endian).
//
//   4 bytes  "GGUF"      u32 version      u64 tensors      u64 metadata entries
//   entries  string key, u32 type, value;          string: u64 length, bytes
//   tensors  string name, u32 rank, u64 sizes (fastest first), u32 type, u64 offset
//   data     from the next multiple of general.alignment on
//
// Readers map the file. open() checks every count, length, size and offset against the bytes that
// are there before anything is allocated for it. Knows no torch: a tensor is a type, a shape
// (slowest first, as everywhere in kvlingua) and bytes; dequantize() turns blocks into floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kvlingua/io/safetensors.h"

namespace kvlingua {

// The types that are read; their numbers are the format's.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30
};
std::string_view to_string(GgufType type);  // "Q4_K"
int64_t block_elements(GgufType type);      // 1, 32 or 256
int64_t block_bytes(GgufType type);

// blocks: whole ones; out: as many floats as they hold. One multiplication, and for types with a
// minimum one addition, in float32: the numbers of the reference implementation.
void dequantize(GgufType type, std::span<const std::byte> blocks, std::span<float> out);

struct GgufTensor {
  GgufType type = GgufType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // lives as long as the file object

  int64_t elements() const;
};

class GgufFile {
 public:
  using Strings = std::vector<std::string_view>;
  using Integers = std::vector<int64_t>;
  using Reals = std::vector<double>;
  using Value =
      std::variant<bool, int64_t, uint64_t, double, std::string_view, Strings, Integers, Reals>;
  using Tensors = std::map<std::string_view, GgufTensor>;

  // Throws Error: kInput for a file that cannot be opened, or of a kind that is not read (named);
  // kCorrupt for one that breaks the format.
  static GgufFile open(const std::filesystem::path& path);
  // The same over bytes that the caller keeps alive.
  static GgufFile from_memory(std::span<const std::byte> bytes, std::string where = "memory");

  const std::string& where() const { return where_; }
  const Tensors& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;  // nullptr: not there
  // All before the tensors' data.
  std::span<const std::byte> header() const { return header_; }

  // Metadata. Nothing where there is no such key; throws Error (kCorrupt) for another type.
  bool has(std::string_view key) const { return metadata_.contains(key); }
  bool is_integers(std::string_view key) const;  // an array of them
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<int64_t> integer(std::string_view key) const;  // not above INT64_MAX
  // Of a 32-bit float the decimal number it was written from: 1e-6, not 9.99999997e-7.
  std::optional<double> real(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  const Strings* strings(std::string_view key) const;  // nullptr: no such key
  const Integers* integers(std::string_view key) const;
  const Reals* reals(std::string_view key) const;

  // A hint, never an error.
  void advise(FileAccess access, std::span<const std::byte> range) const;

 private:
  class Reader;
  class Mapping;
  void read(std::span<const std::byte> bytes);
  template <class T>
  const T* typed(std::string_view key, std::string_view expected) const;

  std::string where_;
  std::shared_ptr<const Mapping> mapping_;  // none for from_memory
  std::span<const std::byte> header_;
  std::map<std::string_view, Value> metadata_;
  Tensors tensors_;
};

// A model may be named by such a file where others are directories.
bool is_gguf_path(const std::filesystem::path& path);

}  // namespace kvlingua
