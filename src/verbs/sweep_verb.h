// sweep: cognitive modes over models, projectors over pairs of scales.
#pragma once

#include "geometry_options.h"

namespace kvlingua::verbs {

struct SweepVerb {
  static constexpr VerbText kText{
      .name = "sweep",
      .help = "cognitive modes over models, projectors over pairs of scales; resumes",
      .sections = "sweep"};

  GeometryOptions geometry;
  std::vector<std::string> scales;
  bool all_scales = false;
  std::string prompts;

  void declare(OptionList& list) {
    geometry.declare(list);
    list.texts("--scale", scales, "KEY", "a named scale such as 0.6B or 7B-q4; may be given again");
    list.flag("--all-scales", all_scales, "every named scale");
    list.text("--prompts", prompts, "FILE", "prompts by category (YAML or JSON)");
    geometry.options.declare_limit(list, "first N prompts of each category");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
