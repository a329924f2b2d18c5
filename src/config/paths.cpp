#include "kvlingua/config/paths.h"

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"
#include "kvlingua/config/options.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

bool is_root(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder / "recipe", ignored) &&
         (fs::is_directory(folder / "datasets", ignored) ||
          fs::is_directory(folder / "include/kvlingua", ignored));
}

// Where an installed program's recipes and models lie, below its prefix.
constexpr const char* kInstalled = "share/kvlingua";

fs::path root_above(fs::path folder) {
  std::error_code ignored;
  while (!folder.empty()) {
    if (is_root(folder)) return folder;
    if (fs::is_directory(folder / kInstalled / "recipe", ignored)) return folder / kInstalled;
    if (folder == folder.parent_path()) break;
    folder = folder.parent_path();
  }
  return {};
}

// Rooms of the project's code lie where runs would: datasets/pairs, say.
bool holds_code(const fs::path& folder) {
  std::error_code failed;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    if (it->path().extension() == ".cpp" || it->path().extension() == ".h") return true;
  }
  return false;
}

void refuse_room(const fs::path& folder, const char* key) {
  if (!holds_code(folder)) return;
  throw Error({.code = ExitCode::kUsage,
               .where = cat(key, " ", folder.filename().string()),
               .what = cat(folder.string(), " holds code of the project, not a run"),
               .remedy = cat("choose another ", key, ", or put runs elsewhere with --out DIR")});
}

}  // namespace

fs::path project_root() {
  std::error_code failed;
  if (const char* named = std::getenv("KVLINGUA_ROOT"); named != nullptr && *named != '\0') {
    if (fs::is_directory(named, failed)) return named;
    throw Error({.code = ExitCode::kUsage,
                 .where = "KVLINGUA_ROOT",
                 .what = "no such folder",
                 .got = printable(named),
                 .remedy = "name the project's folder, or unset it"});
  }
  const fs::path here = fs::current_path(failed);
  if (const fs::path root = failed ? fs::path() : root_above(here); !root.empty()) return root;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed);
  if (const fs::path root = failed ? fs::path() : root_above(program.parent_path()); !root.empty())
    return root;
  return here;
}

std::vector<fs::path> shipped_recipes() {
  const fs::path root = project_root();
  std::vector<fs::path> found;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(root / "recipe", failed), end; !failed && it != end;
       it.increment(failed)) {
    const fs::path& path = it->path();
    if (it->is_regular_file(failed) && (path.extension() == ".yaml" || path.extension() == ".yml" ||
                                        path.extension() == ".json")) {
      found.push_back(path.lexically_relative(root));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

fs::path find_recipe(const std::string& named) {
  const fs::path root = project_root();
  std::error_code ignored;
  for (const fs::path& candidate : {fs::path(named), root / named, root / "recipe" / named,
                                    root / "recipe" / (named + ".yaml")}) {
    if (fs::is_regular_file(candidate, ignored)) return candidate;
  }
  if (fs::exists(named, ignored)) {
    throw Error({.code = ExitCode::kUsage,
                 .where = printable(named),
                 .what = fs::is_directory(named, ignored) ? "is a folder" : "is no regular file",
                 .expected = "a recipe's YAML file"});
  }
  std::vector<std::string> names;
  for (const fs::path& recipe : shipped_recipes()) {
    names.push_back(recipe.string());
    names.push_back(recipe.stem().string());
  }
  const std::string nearest = nearest_name(named, names);
  throw Error({.code = ExitCode::kUsage,
               .where = printable(named),
               .what = "no such recipe",
               .remedy = nearest.empty() ? "`kvlingua recipe ls` lists the shipped ones"
                                         : "did you mean " + nearest + "?"});
}

std::string resolve_path(const std::string& path) {
  std::error_code ignored;
  if (path.empty() || fs::path(path).is_absolute() || fs::exists(path, ignored)) return path;
  const fs::path in_project = project_root() / path;
  return fs::exists(in_project, ignored) ? in_project.string() : path;
}

RunPaths run_paths(const std::string& out_dir, const std::string& dataset_name,
                   const std::string& run_name) {
  RunPaths paths;
  paths.out = out_dir.empty() ? project_root() : fs::path(out_dir);
  // An installed program's folder is for reading.
  if (out_dir.empty() && paths.out.string().ends_with(kInstalled)) paths.out = ".";
  paths.dataset = paths.out / "datasets" / dataset_name;
  paths.run = paths.out / "checkpoints" / run_name;
  refuse_room(paths.dataset, "data.name");
  refuse_room(paths.run, "checkpoint.name");
  return paths;
}

}  // namespace kvlingua
