// nano-lm: makes and scores the models of the embedded pair.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct NanoLmVerb {
  static constexpr VerbText kText{
      .name = "nano-lm", .help = "trains a model of the embedded pair from scratch; resumes"};

  RunOptions options;
  bool validate = false;

  void declare(OptionList& list) {
    list.arguments("RECIPE", "checkpoints/nano/source.yaml or target.yaml", 1, 1);
    options.declare(list);
    list.flag("--validate", validate,
              "score the finished model on held-out items instead; exit 3 below 95 %");
    options.declare_limit(list, "--validate: N items of each kind (500)");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
