// recipe ls | show | check | keys: answered without torch (kvlingua/config/recipe_verbs.h).
#pragma once

#include "kvlingua/config/recipe_verbs.h"
#include "run_options.h"

namespace kvlingua::verbs {

struct RecipeLsVerb {
  static constexpr VerbText kText{.name = "recipe ls", .help = "lists the shipped recipes"};
  static constexpr bool kWithoutTorch = true;

  void declare(OptionList&) {}
  int run(const CommandLine& command) const { return list_recipes(command); }
};

struct RecipeShowVerb {
  static constexpr VerbText kText{.name = "recipe show",
                                  .help = "prints one recipe with every default filled in"};
  static constexpr bool kWithoutTorch = true;

  void declare(OptionList& list) { declare_recipe(list); }
  int run(const CommandLine& command) const { return show_recipe(command); }
};

struct RecipeCheckVerb {
  static constexpr VerbText kText{
      .name = "recipe check",
      .help = "checks keys, types, ranges: file:line:column and the nearest key name"};
  static constexpr bool kWithoutTorch = true;

  void declare(OptionList& list) {
    list.arguments("RECIPE", "YAML files, or names of shipped recipes", 1, 1 << 20);
  }
  int run(const CommandLine& command) const { return check_recipes(command); }
};

struct RecipeKeysVerb {
  static constexpr VerbText kText{.name = "recipe keys", .help = "explains every key of a recipe"};
  static constexpr bool kWithoutTorch = true;

  void declare(OptionList& list) {
    list.arguments("SECTION", "a section or key, such as train.regression; default: all", 0, 1);
  }
  int run(const CommandLine& command) const { return explain_keys(command); }
};

}  // namespace kvlingua::verbs
