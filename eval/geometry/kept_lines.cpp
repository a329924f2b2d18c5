#include "eval/geometry/kept_lines.h"

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/stored_results.h"

namespace kvlingua {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse_line(const std::string& where, const std::string& got) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = where,
               .what = "not a line of stored measurements",
               .got = printable(got, 120),
               .remedy = "take the line out, or start over with --restart"});
}

}  // namespace

KeptLines::KeptLines(const fs::path& file, const std::string& fingerprint, bool resume)
    : file_(file) {
  if (file.empty()) return;
  make_directories(file.parent_path());
  const StoredResults results{.file = file,
                              .key = "fingerprint",
                              .fingerprint = fingerprint,
                              .own = "these settings",
                              .other = "other settings",
                              .doing = "measures"};
  results.must_be_free();
  results.take_up(resume);
  const bool fresh = empty_or_gone(file);
  lock_ = results.lock();
  if (!fresh) load();
  writer_.emplace(file);
  if (fresh) writer_->write(nlohmann::json{{"fingerprint", fingerprint}});
}

void KeptLines::load() {
  read_json_lines(file_, [&](const nlohmann::json& line, size_t number) {
    if (number == 1) return;
    if (!line.is_object() || !line.contains("id") || !line["id"].is_string())
      refuse_line(cat(file_.string(), ":", number), line.dump());
    found_.emplace(line["id"].get<std::string>(), line);
  });
}

const nlohmann::json* KeptLines::find(const std::string& id) const {
  const auto at = found_.find(id);
  return at == found_.end() ? nullptr : &at->second;
}

void KeptLines::read(const std::string& id,
                     const std::function<void(const nlohmann::json&)>& read) const {
  try {
    read(found_.at(id));
  } catch (const nlohmann::json::exception& error) {
    refuse_line(cat(file_.string(), ", ", printable(id)), error.what());
  }
}

void KeptLines::keep(const nlohmann::ordered_json& line) {
  if (writer_ && !found_.contains(line.at("id").get<std::string>())) writer_->write(line);
}

}  // namespace kvlingua
