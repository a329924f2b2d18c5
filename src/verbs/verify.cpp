#include "verify.h"

#include <filesystem>
#include <vector>

#include "checkpoints/load_projector.h"
#include "checkpoints/store.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/manifest.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// A checkpoint is clean when training and evaluation would load it; any other folder with a manifest
// when its files are those listed.
Json verify_manifest(const std::filesystem::path& folder) {
  Json problems = Json::array();
  size_t files = 0;
  try {
    const Manifest manifest = Manifest::load(folder / Manifest::kFileName);
    files = manifest.entries().size();
    for (const ManifestDamage& damage : manifest.verify(folder))
      problems.push_back({{"file", damage.path}, {"what", damage.reason}});
    const bool checkpoint =
        manifest.find("projector.json") != nullptr || manifest.attributes().contains("stage");
    if (problems.empty() && checkpoint) load_projector(folder);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) throw;
    std::string place = error.parts().where;
    const std::string inside = folder.string() + "/";
    if (place.starts_with(inside)) place.erase(0, inside.size());
    const std::string& got = error.parts().got;
    problems.push_back(
        {{"file", place}, {"what", error.parts().what + (got.empty() ? "" : ": got " + got)}});
  }
  return {
      {"kind", "files"}, {"directory", folder.string()}, {"files", files}, {"problems", problems}};
}

// What PATH names: a pair set, a checkpoint, or all checkpoints of a run.
std::vector<std::filesystem::path> folders_of(const std::filesystem::path& named) {
  const std::filesystem::path path = follow_link(named);
  std::error_code ignored;
  if (is_pair_set(path) || std::filesystem::exists(path / Manifest::kFileName, ignored))
    return {path};
  std::vector<std::filesystem::path> found = list_checkpoints(path);
  const auto control = path / "ridge_aligned";
  if (std::filesystem::exists(control / Manifest::kFileName, ignored)) found.push_back(control);
  if (!found.empty()) return found;
  throw Error({.code = ExitCode::kInput,
               .where = printable(path.string(), 400),
               .what = "neither a pair set, a checkpoint nor a run",
               .expected = "a folder with manifest.json, or with step-NNNNNN folders"});
}

}  // namespace

int VerifyVerb::run(const CommandLine& command) const {
  Json results = Json::array();
  bool clean = true;
  std::vector<std::filesystem::path> folders;
  for (const std::string& named : command.arguments) {
    for (auto& folder : folders_of(resolve_path(named))) folders.push_back(std::move(folder));
  }
  for (const std::filesystem::path& folder : folders) {
    const Json result =
        is_pair_set(folder) ? verify_pairs(folder).to_json() : verify_manifest(folder);
    for (const Json& problem : result["problems"]) {
      clean = false;
      std::string where = (folder / problem["file"].get<std::string>()).string();
      if (problem.contains("sample")) where += cat(": sample ", problem["sample"].get<int64_t>());
      if (!command.json_on_stdout()) {
        write_stdout(cat(printable(where, 1000), ": ",
                         printable(problem["what"].get<std::string>(), 1000), "\n"));
      }
    }
    if (result["problems"].empty() && !command.json_on_stdout()) {
      // Of a set that generate has not finished training would take nothing.
      const bool whole = result.value("complete", true);
      write_stdout(cat(printable(folder.string(), 1000),
                       whole ? ": clean\n" : ": whole so far, not finished: generate goes on\n"));
    }
    results.push_back(result);
  }
  if (!command.json.empty()) write_json(command.json, results);
  return static_cast<int>(clean ? ExitCode::kOk : ExitCode::kCorrupt);
}

}  // namespace kvlingua::verbs
