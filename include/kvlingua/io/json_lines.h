// JSON lines: one JSON value a line, appended. Metrics and generations are kept so.
//
// Each line is one write(2), so a killed process loses at most the line it was writing, and the
// next writer cuts that torn line off. Not flushed to the disk line by line: after a power cut the
// file may be shorter, never mixed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua {

class JsonLinesWriter {
 public:
  // Opens or creates; a torn last line is cut off. Errors as AtomicFile's.
  explicit JsonLinesWriter(std::filesystem::path path);
  ~JsonLinesWriter();
  JsonLinesWriter(JsonLinesWriter&& other) noexcept;
  JsonLinesWriter& operator=(JsonLinesWriter&&) = delete;

  // NaN and infinities become null, as JSON has none.
  void write(const nlohmann::json& value);
  void write(const nlohmann::ordered_json& value);

  // Bytes written so far. A checkpoint keeps it; resuming from there cuts off what was written
  // after it.
  uint64_t size() const { return size_; }
  void truncate(uint64_t size);
  void sync();

  const std::filesystem::path& path() const { return path_; }

 private:
  void write_line(std::string line);

  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// Calls `each(value, line)` with line numbers from 1; empty lines are skipped. Returns false when
// the last line is torn (it is left out). Throws Error: kInput when the file cannot be read,
// kCorrupt naming file:line for a line that is not JSON.
bool read_json_lines(const std::filesystem::path& path,
                     const std::function<void(const nlohmann::json&, size_t)>& each);
std::vector<nlohmann::json> read_json_lines(const std::filesystem::path& path);

}  // namespace kvlingua
