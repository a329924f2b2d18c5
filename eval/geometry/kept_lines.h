// Results kept as lines of a file while they are made: what a run that was killed finds again.
//
// The first line is a fingerprint of everything the results follow from; a file with another one is
// begun anew.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "kvlingua/io/json_lines.h"

namespace kvlingua {

class KeptLines {
 public:
  // An empty `file` keeps nothing. Without `resume` what is there is thrown away.
  KeptLines(const std::filesystem::path& file, const std::string& fingerprint, bool resume);
  // Null when there is none.
  const nlohmann::json* find(const std::string& id) const;
  // `line` holds its id under "id".
  void keep(const nlohmann::ordered_json& line);

 private:
  std::map<std::string, nlohmann::json> found_;
  std::optional<JsonLinesWriter> writer_;
};

}  // namespace kvlingua
