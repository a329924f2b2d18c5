// Cache-to-Cache's own recipe files (JSON or YAML with top-level model, training, output, data),
// read as they are.
//
// Every key its trainer knows is listed; others are errors with the nearest name. What has no
// effect here is said in Recipe::notes. base_model is the target (it receives), teacher_model the
// source (it shares).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct Recipe;

bool is_c2c_recipe(std::string_view yaml);
// Translates over `recipe`'s defaults; problems are collected.
std::vector<Problem> read_c2c_recipe(std::string_view yaml, const std::string& file,
                                     Recipe& recipe);

}  // namespace kvlingua
