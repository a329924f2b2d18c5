// Writes a safetensors file tensor by tensor, without ever holding all of them: the header is
// computed from the shapes alone. The bytes are those of the reference implementation: tensors
// ordered by dtype (widest first) and name, header padded to eight bytes. The file is an
// AtomicFile: there whole after commit(), or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/safetensors.h"

namespace kvlingua {

struct SafetensorsEntry {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<int64_t> shape;
};

class SafetensorsWriter {
 public:
  // Throws Error: kFailed for a name given twice or a size out of range; otherwise as AtomicFile.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsEntry> tensors,
                    const std::map<std::string, std::string>& metadata = {});

  // Adds bytes to a tensor, from its beginning on; tensors may be written in any order and in
  // pieces. Throws Error (kFailed) for an unknown tensor and for more bytes than it has.
  void write(std::string_view name, std::span<const std::byte> data);

  // All of the next tensor, in the order in which they were announced.
  // Throws Error (kFailed) when its size is not what its shape says.
  void write(std::span<const std::byte> data);

  // Throws Error (kFailed) naming a tensor that is not complete.
  void finish();

  uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Place {
    uint64_t begin = 0, end = 0, written = 0;
  };
  std::string layout(std::vector<SafetensorsEntry> tensors,
                     const std::map<std::string, std::string>& metadata);

  std::filesystem::path path_;
  std::vector<std::string> announced_;
  size_t next_ = 0;  // of announced_, for write(data)
  std::map<std::string, Place, std::less<>> places_;
  uint64_t file_bytes_ = 0;
  std::string header_;
  AtomicFile file_;
};

}  // namespace kvlingua
