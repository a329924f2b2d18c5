// Writing a safetensors file: the header first, then the tensors one after the other, so that no more than one of them need
// be in memory. The file appears under its name only when it is whole: temporary file, fsync, rename.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kvlingua/io/safetensors.h"

namespace kvlingua {

struct SafetensorsEntry {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<int64_t> shape;
};

class SafetensorsWriter {
 public:
  // Throws Error: kDiskFull when there is no space, kFailed when the file cannot be made or names repeat.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries,
                    const std::map<std::string, std::string>& metadata = {});
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();  // an unfinished file is removed

  // The next tensor's bytes, in the order of the entries; their number must be what its shape says.
  void write(std::span<const std::byte> data);
  // After the last tensor: the file takes its name.
  void finish();

 private:
  void write_all(const void* data, size_t size);
  [[noreturn]] void fail(const std::string& what) const;

  std::filesystem::path path_, temporary_;
  std::vector<SafetensorsEntry> entries_;
  size_t next_ = 0;
  int file_ = -1;
};

}  // namespace kvlingua
