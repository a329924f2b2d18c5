// What the sections of a recipe ask of each other: contradictions that generating, training or
// evaluating would come upon hours later, or would pass over. Private to src/config.
#pragma once

#include "kvlingua/config/recipe.h"

namespace kvlingua::config_detail {

// Options without fields of their own, for check_options().
struct RecipeRules {
  const Recipe& recipe;
  void visit(OptionVisitor& v) const;
};

}  // namespace kvlingua::config_detail
