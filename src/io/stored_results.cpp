#include "kvlingua/io/stored_results.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

namespace fs = std::filesystem;

namespace {

// The first whole line, which says what the others are of; null where nobody can tell.
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

// generations.jsonl -> generations.other-1.jsonl, or the first number that is free.
fs::path move_aside(const fs::path& file) {
  for (int n = 1;; ++n) {
    const fs::path aside = file.parent_path() / cat(file.stem().string(), ".other-", n, ".jsonl");
    if (fs::exists(aside)) continue;
    fs::rename(file, aside);
    return aside;
  }
}

[[noreturn]] void refuse_second(const StoredResults& results) {
  throw Error({.where = results.file.string(),
               .what = cat("another process ", results.doing, " here"),
               .remedy = "wait for it, or choose another --out"});
}

}  // namespace

bool StoredResults::belongs(const fs::path& some) const {
  const nlohmann::json line = first_line(some);
  return line.is_object() && line.contains(key) && line[key] == fingerprint;
}

void StoredResults::must_be_free() const {
  file_ops::must_be_regular(file);
  if (FileLock::taken(file)) refuse_second(*this);
}

bool StoredResults::take_up(bool resume) const {
  if (!resume) {
    std::error_code ignored;
    fs::remove(file, ignored);  // --restart
    return false;
  }
  if (!empty_or_gone(file) && !belongs(file)) {
    const fs::path aside = move_aside(file);
    log_warning(cat(file.string(), " is of ", other, ": kept as ", aside.filename().string()));
  }
  if (!empty_or_gone(file)) return false;
  for (const fs::path& aside : moved_aside(file)) {
    if (!belongs(aside)) continue;
    fs::rename(aside, file);
    log_info(cat(aside.string(), " is of ", own, ": used again"));
    return true;
  }
  return false;
}

FileLock StoredResults::lock() const {
  FileLock held(file);
  if (!held.held()) refuse_second(*this);
  return held;
}

bool empty_or_gone(const fs::path& file) {
  std::error_code ignored;
  return !fs::exists(file, ignored) ||
         (fs::is_regular_file(file, ignored) && fs::file_size(file, ignored) == 0);
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
