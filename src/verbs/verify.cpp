#include "datasets/pairs/verify.h"

#include <filesystem>

#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/manifest.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// A folder with a manifest that is no pair set: a checkpoint, or whatever else keeps one.
Json verify_manifest(const std::filesystem::path& folder) {
  Json problems = Json::array();
  const Manifest manifest = Manifest::load(folder / Manifest::kFileName);
  for (const ManifestDamage& damage : manifest.verify(folder)) {
    problems.push_back({{"file", damage.path}, {"what", damage.reason}});
  }
  return {{"kind", "files"},
          {"directory", folder.string()},
          {"files", manifest.entries().size()},
          {"problems", problems}};
}

}  // namespace

int verify(const CommandLine& command) {
  Json results = Json::array();
  bool clean = true;
  for (const std::string& named : command.arguments) {
    const std::filesystem::path folder = resolve_path(named);
    const Json result =
        is_pair_set(folder) ? verify_pairs(folder).to_json() : verify_manifest(folder);
    for (const Json& problem : result["problems"]) {
      clean = false;
      std::string where = (folder / problem["file"].get<std::string>()).string();
      if (problem.contains("sample")) where += cat(": sample ", problem["sample"].get<int64_t>());
      if (!command.json_on_stdout()) {
        write_stdout(cat(where, ": ", problem["what"].get<std::string>(), "\n"));
      }
    }
    if (result["problems"].empty() && !command.json_on_stdout()) {
      write_stdout(cat(folder.string(), ": clean\n"));
    }
    results.push_back(result);
  }
  if (!command.json.empty()) write_json(command.json, results);
  return static_cast<int>(clean ? ExitCode::kOk : ExitCode::kCorrupt);
}

}  // namespace kvlingua::verbs
