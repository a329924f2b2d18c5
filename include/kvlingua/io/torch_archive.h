// PyTorch's `.pt` files (torch.save's zip format) without executing anything.
//
// The pickle inside is read by a small machine that knows data opcodes and an allow-list of
// globals: OrderedDict, torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter and
// torch's storage classes. Everything else is refused by name, so a hostile file can name a
// function but never have it called. Only stored (uncompressed) records are read, as torch writes
// them. Tensors come as descriptions over raw bytes; this layer does not know torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlingua {

struct PtValue;
using PtPointer = std::shared_ptr<const PtValue>;

struct PtTensor {
  std::string dtype;  // "float32", "bfloat16", "float16", "float64", "int64", "int32", "int16",
                      // "int8", "uint8", "bool"
  std::vector<int64_t> shape, stride;  // in elements
  int64_t offset = 0;                  // in elements
  std::shared_ptr<const std::vector<std::byte>> storage;
  // The elements in row-major order, copied.
  std::vector<std::byte> contiguous_bytes() const;
};

struct PtValue {
  enum class Kind { kNone, kBool, kInt, kFloat, kText, kList, kTuple, kDict, kTensor };
  Kind kind = Kind::kNone;
  bool boolean = false;
  int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<PtPointer> items;                          // list, tuple
  std::vector<std::pair<PtPointer, PtPointer>> entries;  // dict, in file order
  PtTensor tensor;

  // Dict entry by text key, or null.
  const PtValue* find(std::string_view key) const;
};

// Throws Error: kInput when the file cannot be read, kCorrupt naming the reason for everything
// else.
PtPointer read_torch_archive(const std::filesystem::path& path);
PtPointer read_torch_archive(std::string_view bytes, const std::string& where);
// The pickle machine alone, for fuzzing: storages are all missing.
PtPointer read_pickle_for_fuzzing(std::string_view pickle);

struct PtNamedTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string_view bytes;  // row-major
};
// The bytes of a file that torch.load(weights_only=True) reads as an OrderedDict name -> tensor;
// the same input gives the same bytes.
std::string write_torch_archive(const std::vector<PtNamedTensor>& tensors,
                                const std::string& archive_name = "archive");

}  // namespace kvlingua
