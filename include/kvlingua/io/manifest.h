// Manifest: which files belong to a pair set or a checkpoint, with their sizes and hashes. JSON,
// one entry a line, and a last line with the hash of all lines above it, so that a flipped byte in
// the manifest itself is found too:
//
//   {"kvlingua_manifest": 1,
//    "attributes": {...},
//    "entries": [
//      {"path":"shard-00000.h5","bytes":123,"sha256":"...","attributes":{...}}
//    ],
//    "sha256_of_lines_above": "..."}
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace kvlingua {

struct ManifestEntry {
  std::string path;  // relative to the manifest's folder, with '/', never leading out of it
  uint64_t bytes = 0;
  std::string sha256;  // 64 lower-case digits
  // Whatever the owner wants to keep with the file.
  nlohmann::json attributes = nlohmann::json::object();
};

struct ManifestDamage {
  std::string path;
  std::string reason;  // "missing", "123 bytes instead of 456", "content changed (sha256 ...)"
};

class Manifest {
 public:
  static constexpr std::string_view kFileName = "manifest.json";

  // Throws Error: kInput when there is no such file, kCorrupt when it is damaged.
  static Manifest load(const std::filesystem::path& path);
  static Manifest parse(std::string_view text, const std::string& where);

  // Atomic and durable.
  void save(const std::filesystem::path& path) const;
  std::string dump() const;

  const std::vector<ManifestEntry>& entries() const { return entries_; }
  const ManifestEntry* find(std::string_view path) const;
  // Adds an entry, or replaces the one of the same path in place. Throws Error (kFailed) for a path
  // that leads elsewhere.
  void set(ManifestEntry entry);
  // The same with size and hash taken from the file.
  void set_file(const std::filesystem::path& folder, const std::string& path,
                nlohmann::json attributes = nlohmann::json::object());
  void remove(std::string_view path);

  // Of the set as a whole.
  nlohmann::json& attributes() { return attributes_; }
  const nlohmann::json& attributes() const { return attributes_; }

  // Re-reads every file; empty when all is well. `progress(bytes_read, bytes_in_all)` after each
  // file. With deep = false only existence and size are looked at.
  std::vector<ManifestDamage> verify(
      const std::filesystem::path& folder, bool deep = true,
      const std::function<void(uint64_t, uint64_t)>& progress = {}) const;

 private:
  std::vector<ManifestEntry> entries_;
  nlohmann::json attributes_ = nlohmann::json::object();
};

}  // namespace kvlingua
