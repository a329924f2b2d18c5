// train: the stages of a recipe.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct TrainVerb {
  static constexpr VerbText kText{
      .name = "train",
      .help = "the recipe's stages in order into checkpoints/<run>/; resumes",
      .sections = "projector train checkpoint"};

  RunOptions options;
  std::string stage, checkpoint;
  int64_t seeds = 1;

  void declare(OptionList& list) {
    declare_recipe(list);
    options.declare(list);
    const std::vector<std::string_view> names = stage_names();
    list.text("--stage", stage, "NAME", "only this one: " + listed_stages(),
              {names.begin(), names.end()});
    list.text("--checkpoint", checkpoint, "DIR",
              "start from this checkpoint instead of the run's latest");
    list.number("--seeds", seeds,
                "train N times with seeds one apart, into <run>/seeds/; for evaluate --confirm",
                100);
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
