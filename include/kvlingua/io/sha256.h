// SHA-256 of bytes and files, for manifests and fingerprints.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace kvlingua {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  Sha256& update(const void* data, size_t size);
  Sha256& update(std::string_view text) { return update(text.data(), text.size()); }
  std::string hex();  // 64 lower-case digits; the object is spent afterwards

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string sha256_hex(std::string_view bytes);
// Reads in blocks. Throws Error (kInput) when the file cannot be read.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace kvlingua
