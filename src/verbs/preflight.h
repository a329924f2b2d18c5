// preflight: can this recipe run here?
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct PreflightVerb {
  static constexpr VerbText kText{
      .name = "preflight", .help = "says whether the recipe can run here; exit 0 only when it can"};

  void declare(OptionList& list) { declare_recipe(list); }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
