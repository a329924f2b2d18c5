// A read-only private mapping of a whole file, for formats that are read in place.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>

#include "kvlingua/base/mapped_files.h"
#include "kvlingua/io/safetensors.h"

namespace kvlingua {

class FileMapping {
 public:
  // Throws Error (kInput) when the file cannot be opened or is not a regular one.
  explicit FileMapping(const std::filesystem::path& path);
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(address_), size_};
  }

 private:
  void* address_ = nullptr;
  size_t size_ = 0;
  std::optional<MappedFile> registered_;
};

// A hint about a range of a mapping; never an error.
void advise_kernel(FileAccess access, std::span<const std::byte> range);

}  // namespace kvlingua
