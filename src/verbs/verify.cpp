#include "verify.h"

#include <cstdio>
#include <filesystem>
#include <vector>

#include "checkpoints/load_projector.h"
#include "checkpoints/store.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/manifest.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// A checkpoint is clean when training and evaluation would load it; any other folder with a
// manifest when its files are those listed.
Json verify_manifest(const std::filesystem::path& folder) {
  Json problems = Json::array();
  size_t files = 0;
  try {
    const Manifest manifest = Manifest::load(folder / Manifest::kFileName);
    files = manifest.entries().size();
    const auto stop = [](uint64_t, uint64_t) {
      if (stop_requested()) throw stopped_error("nothing was changed");
    };
    for (const ManifestDamage& damage : manifest.verify(folder, true, stop))
      problems.push_back({{"file", damage.path}, {"what", damage.reason}});
    const bool checkpoint =
        manifest.find("projector.json") != nullptr || manifest.attributes().contains("stage");
    if (problems.empty() && checkpoint) load_projector(folder);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) throw;
    std::string place = error.parts().where;
    const std::string inside = folder.string() + "/";
    if (place.starts_with(inside)) place.erase(0, inside.size());
    const ErrorParts& parts = error.parts();
    problems.push_back(
        {{"file", place},
         {"what", cat(parts.what, parts.got.empty() ? "" : ": got ", parts.got,
                      parts.expected.empty() ? "" : ", expected ", parts.expected)}});
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

// One line a problem, or that there is none.
std::string text_of(const std::filesystem::path& folder, const Json& result) {
  std::string text;
  for (const Json& problem : result["problems"]) {
    std::string where = (folder / problem["file"].get<std::string>()).string();
    if (problem.contains("sample")) where += cat(": sample ", problem["sample"].get<int64_t>());
    text += cat(printable(where, 1000), ": ", printable(problem["what"].get<std::string>(), 1000),
                "\n");
  }
  if (!text.empty()) return text;
  // Of a set that generate has not finished training would take nothing.
  const bool whole = result.value("complete", true);
  return cat(printable(folder.string(), 1000),
             whole ? ": clean\n" : ": whole so far, not finished: generate goes on\n");
}

}  // namespace

// Every path is looked at: what the last is not must not hide what is damaged in the first.
int VerifyVerb::run(const CommandLine& command) const {
  check_set(command);
  Json results = Json::array();
  ExitCode code = ExitCode::kOk;
  for (const std::string& named : command.arguments) {
    try {
      for (const std::filesystem::path& folder : folders_of(resolve_path(named))) {
        const Json result =
            is_pair_set(folder) ? verify_pairs(folder).to_json() : verify_manifest(folder);
        if (!result["problems"].empty()) code = ExitCode::kCorrupt;
        if (!command.json_on_stdout()) write_stdout(text_of(folder, result));
        results.push_back(result);
      }
    } catch (const Error& error) {
      if (error.code() != ExitCode::kInput) throw;
      clear_progress_line();
      std::fprintf(stderr, "kvlingua: %s\n", error.what());
      if (code == ExitCode::kOk) code = ExitCode::kInput;
      results.push_back({{"kind", "none"},
                         {"directory", named},
                         {"problems", {{{"file", ""}, {"what", error.parts().what}}}}});
    }
  }
  if (!command.json.empty()) write_json(command.json, results);
  return static_cast<int>(code);
}

}  // namespace kvlingua::verbs
