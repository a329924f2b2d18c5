// Safetensors files: named tensors behind a JSON header (github.com/huggingface/safetensors,
// "Format").
//
//   8 bytes  header length N, little-endian, at most 100 MB
//   N bytes  {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]},
//             "__metadata__": {...}}, space-padded
//   rest     the tensors, row-major, little-endian, without gap or overlap
//
// Readers map the file: no byte of a tensor is read before it is touched. open() checks the whole
// header, so that what it returns can be used without further checks; a damaged file is refused
// with the reason. Knows no torch: a tensor is a dtype, a shape and bytes. The bytes need not be
// aligned to their element size: copy them with memcpy.
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
#include <vector>

namespace kvlingua {

enum class SafetensorsDtype {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64
};
std::string_view to_string(SafetensorsDtype dtype);  // as in the header: "BF16"
std::optional<SafetensorsDtype> safetensors_dtype(std::string_view name);
int64_t bit_width(SafetensorsDtype dtype);  // of one element

// One tensor of an open file. `data` points into the mapping and lives as long as the file object
// (or a copy of it).
struct SafetensorsView {
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<int64_t> shape;  // empty: a scalar
  std::span<const std::byte> data;

  int64_t elements() const;
};

// "[2, 3]"
std::string describe_shape(std::span<const int64_t> shape);

// What the kernel should expect of a range of a mapping.
enum class FileAccess {
  kSequential,  // read ahead
  kWillNeed,    // start reading now
  kDontNeed     // drop the pages from this process; they are read again when touched
};

class SafetensorsFile {
 public:
  using Tensors = std::map<std::string, SafetensorsView, std::less<>>;

  // Throws Error: kInput when the file cannot be opened, kCorrupt when it breaks the format.
  static SafetensorsFile open(const std::filesystem::path& path);
  // The same over bytes that the caller keeps alive.
  static SafetensorsFile from_memory(std::span<const std::byte> bytes,
                                     std::string where = "memory");

  const std::string& where() const { return where_; }
  const Tensors& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  size_t file_bytes() const { return bytes_.size(); }

  const SafetensorsView* find(std::string_view name) const;  // nullptr: not there
  // Throws Error (kInput) naming file, tensor and the nearest name there is.
  const SafetensorsView& at(std::string_view name) const;

  // A hint, never an error. Loading a large model: kSequential first, kDontNeed after each tensor
  // was copied.
  void advise(FileAccess access, std::span<const std::byte> range) const;
  void advise(FileAccess access) const { advise(access, bytes_); }

 private:
  class Mapping;
  friend class ShardedSafetensors;
  void read_header();

  std::string where_;
  std::shared_ptr<const Mapping> mapping_;  // none for from_memory
  std::span<const std::byte> bytes_;
  Tensors tensors_;
  std::map<std::string, std::string> metadata_;
};

// The weights of a model directory: model.safetensors, or the shards named by
// model.safetensors.index.json.
class ShardedSafetensors {
 public:
  // Throws Error: kInput when there are no such files or shards are missing (all are named),
  // kCorrupt when an index or a shard is damaged or they contradict each other.
  // Weights saved without their head (AutoModel) lack "model." in their names; it is put there.
  static ShardedSafetensors open(const std::filesystem::path& directory);

  const std::string& where() const { return where_; }  // the single file or the index
  const std::vector<SafetensorsFile>& files() const { return files_; }
  std::vector<std::string> names() const;  // sorted
  bool contains(std::string_view name) const { return file_of_.find(name) != file_of_.end(); }

  const SafetensorsView* find(std::string_view name) const;
  const SafetensorsView& at(std::string_view name) const;
  const SafetensorsFile& file_of(std::string_view name) const;  // throws as at()
  // Tells the kernel that a tensor was copied and its pages may go.
  void done_with(std::string_view name) const;

 private:
  void name_as_whole_model();
  std::string where_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t, std::less<>> file_of_;
};

}  // namespace kvlingua
