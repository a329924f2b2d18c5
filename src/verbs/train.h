// train: the stages of a recipe.
#pragma once

#include "kvlingua/config/stages.h"
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
    std::vector<std::string> names;
    std::string all;
    for (const std::string_view name : stage_names()) {
      names.emplace_back(name);
      all += (all.empty() ? "" : ", ") + names.back();
    }
    list.text("--stage", stage, "NAME", "only this one: " + all, names);
    list.text("--checkpoint", checkpoint, "DIR",
              "start from this checkpoint instead of the run's latest");
    list.number("--seeds", seeds,
                "train N times with seeds one apart, into <run>/seeds/; for evaluate --confirm",
                100);
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
