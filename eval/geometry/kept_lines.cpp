#include "eval/geometry/kept_lines.h"

namespace kvlingua {

KeptLines::KeptLines(const std::filesystem::path& file, const std::string& fingerprint,
                     bool resume) {
  if (file.empty()) return;
  std::filesystem::create_directories(file.parent_path());
  bool same = false;
  if (resume && std::filesystem::exists(file)) {
    read_json_lines(file, [&](const nlohmann::json& line, size_t number) {
      if (number == 1) same = line.value("fingerprint", std::string()) == fingerprint;
      if (number > 1 && same) found_.emplace(line.at("id"), line);
    });
  }
  if (!same) std::filesystem::remove(file);
  writer_.emplace(file);
  if (!same) writer_->write(nlohmann::json{{"fingerprint", fingerprint}});
}

const nlohmann::json* KeptLines::find(const std::string& id) const {
  const auto at = found_.find(id);
  return at == found_.end() ? nullptr : &at->second;
}

void KeptLines::keep(const nlohmann::ordered_json& line) {
  if (writer_ && !found_.contains(line.at("id").get<std::string>())) writer_->write(line);
}

}  // namespace kvlingua
