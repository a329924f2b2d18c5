// What sweep and identity take alike: which models, and how they are measured.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct GeometryOptions {
  RunOptions options;
  std::vector<std::string> models;
  bool quantize = false, input_only = false, layer_streaming = false;
  int64_t runs = 1;
  std::string dtype, compare;

  void declare(OptionList& list) {
    list.arguments("MODEL|RECIPE", "models by directory or hub name, or one recipe", 0, 1 << 10);
    list.texts("--model", models, "ID", "a model, as if named without --model");
    options.declare(list);
    list.flag("--quantize", quantize, "4-bit weights (NF4)");
    list.number("--runs", runs, "repeats; greedy ones are equal, which is checked, and count once");
    declare_dtype(list, dtype);
    list.flag("--input-only", input_only, "measure the prompt's cache, write nothing");
    list.text("--compare", compare, "OLD.json", "older results: which of their findings survive");
    declare_streaming(list, layer_streaming);
  }
};

}  // namespace kvlingua::verbs
