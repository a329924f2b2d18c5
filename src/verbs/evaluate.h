// evaluate: conditions, criteria, report.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct EvaluateVerb {
  static constexpr VerbText kText{
      .name = "evaluate",
      .help = "conditions, criteria and report; exit 3 when the gate was not met",
      .sections = "eval"};

  RunOptions options;
  std::string checkpoint;
  bool confirm = false;
  std::vector<std::string> compare;

  void declare(OptionList& list) {
    declare_recipe(list);
    options.declare(list);
    list.text("--checkpoint", checkpoint, "DIR",
              "judge this checkpoint instead of the run's latest");
    options.declare_limit(list, "first N items of each family only (marked so in the report)");
    list.flag("--confirm", confirm,
              "one look at fresh items by several training seeds; else a run is exploratory");
    list.words("--compare", compare, 2, "A B", "two checkpoints side by side, paired");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
