// Where runs live: datasets/<name>/ and checkpoints/<run>/, under the project's own folder or under
// --out DIR.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace kvlingua {

// $KVLINGUA_ROOT, else the nearest folder that holds recipe/ and datasets or src, or below it
// share/kvlingua of an installed program, upwards from the working folder and then from the
// program's own place; else the working folder.
std::filesystem::path project_root();

// A recipe named on the command line: a file as it is, else under the project's root, else
// recipe/<name>.yaml there. Throws Error (kUsage) with the nearest shipped recipe.
std::filesystem::path find_recipe(const std::string& named);
// Shipped recipes, relative to the project's root, sorted.
std::vector<std::filesystem::path> shipped_recipes();

// A relative path from a recipe: as it is when it exists in the working folder, else under the
// project's root when it exists there, else unchanged. Hub names (org/model) therefore pass
// through.
std::string resolve_path(const std::string& path);

struct RunPaths {
  std::filesystem::path out;      // folder that holds datasets/ and checkpoints/
  std::filesystem::path dataset;  // out/datasets/<name>
  std::filesystem::path run;      // out/checkpoints/<run>
  std::filesystem::path eval() const { return run / "eval"; }
};
// out_dir: --out, or empty for project_root() (for an installed program: the working folder).
// Throws Error (kUsage) for a name that is a room of the project's code, such as datasets/pairs.
RunPaths run_paths(const std::string& out_dir, const std::string& dataset_name,
                   const std::string& run_name);

}  // namespace kvlingua
