#include "kvlingua/config/recipe.h"

#include "kvlingua/base/utf8.h"
#include "kvlingua/config/c2c_recipe.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/sha256.h"
#include "recipe_rules.h"

namespace kvlingua {
namespace {

std::string read_text(const std::filesystem::path& file) {
  std::string text;
  try {
    text = read_text_file(file);
  } catch (const Error& error) {
    throw Error({.code = ExitCode::kUsage,
                 .where = file.string(),
                 .what = "cannot read the recipe",
                 .got = error.parts().got,
                 .remedy = "`kvlingua recipe ls` lists the shipped ones"});
  }
  if (const auto at = find_invalid_utf8(text)) {
    throw Error({.code = ExitCode::kUsage,
                 .where = file.string(),
                 .what = cat("not UTF-8 at byte ", *at),
                 .remedy = "save the recipe as UTF-8"});
  }
  return text;
}

bool is_name(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.size() > 128) return false;
  for (char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
          c == '_' || c == '+' || c == '-'))
      return false;
  }
  return true;
}

std::string name_of_file(const std::filesystem::path& file) {
  std::string name = file.stem().string();
  for (char& c : name) {
    if (!is_name(std::string("x") + c)) c = '_';
  }
  return is_name(name) ? name : "recipe";
}

// Names become folders, so they must not climb out of their place.
void check_names(const Recipe& recipe, const std::string& file, std::vector<Problem>& problems) {
  const std::pair<const char*, const std::string&> names[] = {
      {"name", recipe.name},
      {"data.name", recipe.data.name},
      {"checkpoint.name", recipe.checkpoint.name}};
  for (const auto& [path, name] : names) {
    if (name.empty() || is_name(name)) continue;
    problems.push_back({0,
                        0,
                        {.code = ExitCode::kUsage,
                         .where = file,
                         .what = path,
                         .got = printable(name, 60),
                         .expected = "letters, digits and . _ + - (it names a folder)"}});
  }
}

constexpr int kDeepest = 8;  // recipes that extend one another

// Reads the text over `recipe`, what it extends first.
std::vector<Problem> read_chain(std::string_view text, const std::string& file, Recipe& recipe,
                                Places& places, int depth = 0) {
  Recipe probe;
  read_options(visit_of(probe), text, file);
  if (!probe.extends.empty()) {
    if (depth == kDeepest) {
      throw Error({.code = ExitCode::kUsage,
                   .where = file,
                   .what = "extends: recipes extend one another in a circle or too deeply",
                   .expected = cat("at most ", kDeepest, " levels")});
    }
    const auto base = std::filesystem::path(file).parent_path() / probe.extends;
    std::vector<Problem> problems =
        read_chain(read_text(base), base.string(), recipe, places, depth + 1);
    if (!problems.empty()) return problems;
    recipe.name.clear();  // each recipe has its own
  }
  std::vector<Problem> problems = read_options(visit_of(recipe), text, file, &places);
  recipe.extends.clear();
  return problems;
}

std::vector<Problem> read_all(std::string_view text, const std::string& file,
                              const std::vector<std::string>& overrides, Recipe& recipe) {
  Places places;
  std::vector<Problem> problems = is_c2c_recipe(text) ? read_c2c_recipe(text, file, recipe)
                                                      : read_chain(text, file, recipe, places);
  for (const std::string& assignment : overrides) {
    for (Problem& problem : set_option(visit_of(recipe), assignment, &places))
      problems.push_back(std::move(problem));
  }
  if (problems.empty()) problems = check_options(visit_of(recipe), places, file);
  config_detail::RecipeRules rules{recipe};
  if (problems.empty()) problems = check_options(visit_of(rules), places, file);
  recipe.file = file;
  if (recipe.name.empty()) recipe.name = name_of_file(file);
  check_names(recipe, file, problems);
  return problems;
}

}  // namespace

Recipe Recipe::load(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  return from_yaml(read_text(file), file.string(), overrides);
}

Recipe Recipe::from_yaml(std::string_view text, const std::string& file,
                         const std::vector<std::string>& overrides) {
  Recipe recipe;
  throw_first(read_all(text, file, overrides, recipe));
  return recipe;
}

std::vector<Problem> Recipe::check(const std::filesystem::path& file,
                                   const std::vector<std::string>& overrides) {
  Recipe recipe;
  return read_all(read_text(file), file.string(), overrides, recipe);
}

std::string Recipe::to_yaml() const {
  Recipe copy = *this;  // visit() is not const: the same list reads and writes
  return options_to_yaml(visit_of(copy));
}

std::string Recipe::recipe_sha256() const { return sha256_hex(to_yaml()); }

}  // namespace kvlingua
