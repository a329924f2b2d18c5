#include "eval/sweep/prompts.h"

#include <algorithm>

#include "eval/geometry/yaml_texts.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"
#include "kvlingua/config/paths.h"

namespace kvlingua {

std::filesystem::path builtin_cognitive_modes() {
  return project_root() / "eval" / "probes" / "cognitive_modes.yaml";
}

std::vector<PromptCategory> read_prompts(const std::filesystem::path& file) {
  const TextFile texts{file.string(), "eval/probes/cognitive_modes.yaml"};
  const YAML::Node document = texts.load();
  if (!document.IsMap())
    texts.refuse(document.Mark(), "not a file of prompts", "a map from category to texts");
  const YAML::Node root = document["categories"] ? document["categories"] : document;
  if (!root.IsMap())
    texts.refuse(root.Mark(), "categories is not a map", "a map from category to texts");
  std::vector<PromptCategory> categories;
  std::vector<std::string> names;
  SeenTexts seen;  // in two categories a prompt would be told apart from itself
  for (const auto& entry : root) {
    names.push_back(texts.name(entry.first, "category", names));
    const std::string whose = "category " + printable(names.back(), 60);
    categories.push_back({names.back(), texts.texts(entry.second, whose, seen)});
  }
  if (categories.empty())
    texts.refuse(root.Mark(), "no categories", "a map from category to texts");
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
