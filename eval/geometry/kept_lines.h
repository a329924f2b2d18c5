// Results kept as lines of a file while they are made: what a run that was killed finds again.
//
// The first line is a fingerprint of everything the results follow from. A file with another one is
// moved aside, and one that was comes back when it fits. One process at a time writes a file.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "kvlingua/io/file_lock.h"
#include "kvlingua/io/json_lines.h"

namespace kvlingua {

class KeptLines {
 public:
  // An empty `file` keeps nothing. Without `resume` what is there is thrown away. Throws Error:
  // kCorrupt naming file:line for what is no such line, kFailed when another process writes there.
  KeptLines(const std::filesystem::path& file, const std::string& fingerprint, bool resume);
  // Null when there is none.
  const nlohmann::json* find(const std::string& id) const;
  // `line` holds its id under "id".
  void keep(const nlohmann::ordered_json& line);
  // read(line) of the stored line `id`, which must be there. A line that is not what `read` expects
  // (an exception of nlohmann's) is an Error (kCorrupt) that names the file and the id.
  void read(const std::string& id, const std::function<void(const nlohmann::json&)>& read) const;

 private:
  void load();

  std::filesystem::path file_;
  FileLock lock_;
  std::map<std::string, nlohmann::json> found_;
  std::optional<JsonLinesWriter> writer_;
};

}  // namespace kvlingua
