#include "eval/sweep/prompts.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

namespace {

[[noreturn]] void refuse(const std::string& where, const YAML::Mark& mark, std::string what,
                         std::string expected) {
  throw Error(
      {.code = ExitCode::kInput,
       .where = mark.is_null() ? where : cat(where, ":", mark.line + 1, ":", mark.column + 1),
       .what = std::move(what),
       .expected = std::move(expected),
       .remedy = "see eval/probes/cognitive_modes.yaml for the form"});
}

PromptCategory category_from(const std::string& name, const YAML::Node& list,
                             const std::string& where) {
  if (!list.IsSequence())
    refuse(where, list.Mark(), "category " + printable(name, 60) + " is not a list", "texts");
  PromptCategory category{name, {}};
  for (const auto& entry : list) {
    if (!entry.IsScalar() || entry.Scalar().find_first_not_of(" \t\r\n") == std::string::npos)
      refuse(where, entry.Mark(), "a prompt of " + printable(name, 60) + " is no text", "words");
    category.prompts.push_back(entry.Scalar());
  }
  if (category.prompts.empty())
    refuse(where, list.Mark(), "category " + printable(name, 60) + " has no prompts",
           "one at least");
  return category;
}

}  // namespace

std::filesystem::path builtin_cognitive_modes() {
  return project_root() / "eval" / "probes" / "cognitive_modes.yaml";
}

std::vector<PromptCategory> read_prompts(const std::filesystem::path& file) {
  const std::string where = file.string(), text = read_text_file(file);
  std::vector<PromptCategory> categories;
  try {
    const YAML::Node document = YAML::Load(text);
    if (!document.IsMap())
      refuse(where, document.Mark(), "not a file of prompts", "a map from category to texts");
    const YAML::Node root = document["categories"] ? document["categories"] : document;
    if (!root.IsMap())
      refuse(where, root.Mark(), "categories is not a map", "a map from category to texts");
    for (const auto& entry : root) {
      categories.push_back(category_from(entry.first.Scalar(), entry.second, where));
      const auto same = [&](const PromptCategory& c) { return c.name == categories.back().name; };
      if (std::ranges::count_if(categories, same) > 1)
        refuse(where, entry.first.Mark(),
               "category " + printable(categories.back().name, 60) + " is there twice", "once");
    }
  } catch (const YAML::Exception& error) {
    refuse(where, error.mark, "not readable as YAML: " + printable(error.msg), "YAML or JSON");
  }
  if (categories.empty())
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = "no categories",
                 .expected = "a map from category to texts"});
  return categories;
}

std::vector<PromptCategory> choose_prompts(std::vector<PromptCategory> categories,
                                           const std::vector<std::string>& names, int64_t limit) {
  std::vector<std::string> known;
  for (const PromptCategory& category : categories) known.push_back(category.name);
  for (const std::string& name : names) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string nearest = nearest_name(name, known);
    throw Error({.code = ExitCode::kUsage,
                 .where = "sweep.categories",
                 .what = "no such category",
                 .got = printable(name, 60),
                 .remedy = nearest.empty() ? "the file of prompts names them"
                                           : "did you mean " + nearest + "?"});
  }
  if (!names.empty())
    std::erase_if(categories, [&](const PromptCategory& category) {
      return std::ranges::find(names, category.name) == names.end();
    });
  for (PromptCategory& category : categories)
    if (limit > 0 && static_cast<int64_t>(category.prompts.size()) > limit)
      category.prompts.resize(static_cast<size_t>(limit));
  return categories;
}

}  // namespace kvlingua
