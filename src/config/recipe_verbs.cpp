#include "kvlingua/config/recipe_verbs.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "kvlingua/base/nearest.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

void say_notes(const Recipe& recipe) {
  for (const std::string& note : recipe.notes)
    std::fprintf(stderr, "kvlingua: %s\n", printable(note, 1000).c_str());
}

}  // namespace

Recipe with_seed(Recipe recipe, std::optional<int64_t> seed) {
  if (!seed) return recipe;
  recipe.data.seed = recipe.train.seed = recipe.sweep.seed = recipe.identity.seed = *seed;
  recipe.eval.seeds = {*seed};
  return recipe;
}

int list_recipes(const CommandLine& command) {
  Json list = Json::array();
  std::string text;
  const std::filesystem::path root = project_root();
  for (const std::filesystem::path& file : shipped_recipes()) {
    std::string description;
    try {
      description = Recipe::load(root / file).description;
    } catch (const Error& error) {
      description = "does not load: `kvlingua recipe check " + file.string() + "`";
    }
    list.push_back({{"recipe", file.string()}, {"description", description}});
    std::string name = file.string();
    if (name.size() < 52) name.resize(52, ' ');
    text += printable(name, 400) + "  " + printable(description, 400) + "\n";
  }
  command.json.empty() ? void(write_stdout(text)) : write_json(command.json, list);
  return 0;
}

int show_recipe(const CommandLine& command) {
  Recipe recipe =
      with_seed(Recipe::load(find_recipe(command.arguments.at(0)), command.set), command.seed);
  say_notes(recipe);
  if (command.json.empty()) {
    write_stdout(recipe.to_yaml());
  } else {
    write_json(command.json, {{"file", recipe.file.string()},
                              {"recipe_sha256", recipe.recipe_sha256()},
                              {"notes", recipe.notes},
                              {"recipe", options_to_json(visit_of(recipe))}});
  }
  return 0;
}

int check_recipes(const CommandLine& command) {
  Json results = Json::array();
  std::string text;
  bool all_good = true;
  for (const std::string& named : command.arguments) {
    std::vector<Problem> problems;
    std::filesystem::path file = named;
    try {
      file = find_recipe(named);
      problems = Recipe::check(file, command.set);
    } catch (const Error& error) {
      problems.push_back({0, 0, error.parts()});
    }
    Json listed = Json::array();
    for (const Problem& problem : problems) {
      const Error error(problem.parts);
      std::fprintf(stderr, "kvlingua: %s\n", error.what());
      listed.push_back(
          {{"line", problem.line}, {"column", problem.column}, {"message", error.what()}});
    }
    all_good = all_good && problems.empty();
    if (problems.empty()) text += file.string() + ": ok\n";
    results.push_back({{"recipe", file.string()}, {"ok", problems.empty()}, {"problems", listed}});
  }
  command.json.empty() ? void(write_stdout(text)) : write_json(command.json, results);
  return all_good ? 0 : static_cast<int>(ExitCode::kUsage);
}

int explain_keys(const CommandLine& command) {
  Recipe recipe;
  recipe.eval.benchmarks.resize(1);  // so that a list's keys are explained too
  const std::string wanted = command.arguments.empty() ? "" : command.arguments[0];
  Json list = Json::array();
  std::string text;
  std::vector<std::string> names;
  for (const OptionRow& row : describe_options(visit_of(recipe))) {
    names.push_back(row.path);
    if (!wanted.empty() && row.path != wanted && !row.path.starts_with(wanted + ".") &&
        !row.path.starts_with(wanted + "["))
      continue;
    list.push_back({{"key", row.path},
                    {"type", row.type},
                    {"default", row.value},
                    {"range", row.range},
                    {"help", row.help}});
    if (row.type == "section" || row.type == "list of sections") {
      text += "\n" + row.path + ": " + (row.help.empty() ? row.type : row.help) + "\n";
    } else {
      text += "  " + row.path + " = " + row.value + "  (" + row.type +
              (row.range.empty() ? "" : ": " + row.range) + ")  " + row.help + "\n";
    }
  }
  if (list.empty()) {
    const std::string nearest = nearest_name(wanted, names);
    throw Error({.code = ExitCode::kUsage,
                 .where = "recipe keys",
                 .what = "no such section or key: " + printable(wanted, 60),
                 .remedy = nearest.empty() ? "`kvlingua recipe keys` lists them all"
                                           : "did you mean " + nearest + "?"});
  }
  command.json.empty() ? void(write_stdout(text)) : write_json(command.json, list);
  return 0;
}

}  // namespace kvlingua
