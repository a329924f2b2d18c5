// Prompts by category, from a YAML or JSON file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace kvlingua {

struct PromptCategory {
  std::string name;
  std::vector<std::string> prompts;
};

// eval/probes/cognitive_modes.yaml: thirteen categories, fifteen prompts each.
std::filesystem::path builtin_cognitive_modes();

// A map from category to a list of texts, at the top or under `categories`. Throws Error (kInput)
// naming file and line: no category, a category without texts, an empty text.
std::vector<PromptCategory> read_prompts(const std::filesystem::path& file);

// `names`: only these, in the file's order; empty: all. `limit`: the first so many of each; 0: all.
// Throws Error (kUsage) with the nearest name.
std::vector<PromptCategory> choose_prompts(std::vector<PromptCategory> categories,
                                           const std::vector<std::string>& names, int64_t limit);

}  // namespace kvlingua
