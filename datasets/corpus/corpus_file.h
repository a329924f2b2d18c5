// RecordFile: a file of records, indexed by one pass that holds a block at a time.
//
// Records are lines, or the elements of one top-level JSON array (a conversation file as
// OpenHermes-2.5 is distributed: 1.9 GB in one array). The pass finds where records begin, hashes
// the file, and refuses kinds of files that are not read by their first bytes. It does not parse:
// that happens record by record, when one is asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvlingua {

enum class RecordLayout { kLines, kLinesOrArray };

class RecordFile {
 public:
  // Throws Error (kInput): missing, unreadable, Parquet/Arrow/compressed (with how to convert), an
  // array that does not end.
  RecordFile(const std::filesystem::path& path, RecordLayout layout);
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  int64_t size() const { return static_cast<int64_t>(records_.size()); }
  const std::filesystem::path& path() const { return path_; }
  const std::string& sha256() const { return sha256_; }
  // The record's bytes, without line end. Throws Error (kInput) when the file has shrunk or the
  // record is too long.
  std::string read(int64_t i) const;
  // "file:line" of a record; reads the file up to there.
  std::string place(int64_t i) const;

 private:
  struct Extent {
    int64_t begin, end;
  };
  void scan(RecordLayout layout);

  std::filesystem::path path_;
  int fd_ = -1;
  std::vector<Extent> records_;
  std::string sha256_;
};

}  // namespace kvlingua
