#include "eval/answers/set_aside.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

namespace fs = std::filesystem;

bool empty_or_gone(const fs::path& file) {
  std::error_code ignored;
  return !fs::exists(file, ignored) ||
         (fs::is_regular_file(file, ignored) && fs::file_size(file, ignored) == 0);
}

nlohmann::json first_line(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return nullptr;
  std::ifstream in(file, std::ios::binary);
  std::string line;
  if (!std::getline(in, line) || in.eof()) return nullptr;
  try {
    return parse_json(line, file.string());
  } catch (const Error&) {
    return nullptr;
  }
}

fs::path move_aside(const fs::path& file) {
  for (int n = 1;; ++n) {
    const fs::path aside = file.parent_path() / cat(file.stem().string(), ".other-", n, ".jsonl");
    if (fs::exists(aside)) continue;
    fs::rename(file, aside);
    return aside;
  }
}

std::vector<fs::path> moved_aside(const fs::path& file) {
  std::vector<fs::path> found;
  const std::string prefix = file.stem().string() + ".other-";
  for (const auto& entry : fs::directory_iterator(file.parent_path())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".jsonl")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace kvlingua
