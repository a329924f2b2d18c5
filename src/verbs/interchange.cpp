#include "interchange.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "checkpoints/interchange.h"
#include "kvlingua/base/progress.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// What stands in the folder that was made, as one line and as JSON.
void put_made(const CommandLine& command, const std::string& format, const std::string& out) {
  std::vector<std::filesystem::directory_entry> entries;
  for (const auto& entry : std::filesystem::directory_iterator(out)) entries.push_back(entry);
  std::ranges::sort(entries);
  Json files = Json::array();
  uintmax_t bytes = 0;
  for (const auto& entry : entries) {
    files.push_back({{"file", entry.path().filename().string()}, {"bytes", entry.file_size()}});
    bytes += entry.file_size();
  }
  put_result(command,
             cat(out, ": ", files.size(), " files, ", bytes_text(static_cast<double>(bytes)), "\n"),
             {{"format", format}, {"directory", out}, {"files", files}});
}

}  // namespace

int ImportVerb::run(const CommandLine& command) const {
  check_set(command);
  const auto& [format, from, out] =
      std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  import_checkpoint(format, from, out);
  put_made(command, format, out);
  return 0;
}

int ExportVerb::run(const CommandLine& command) const {
  check_set(command);
  const auto& [format, from, out] =
      std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  export_checkpoint(format, from, out);
  put_made(command, format, out);
  return 0;
}

}  // namespace kvlingua::verbs
