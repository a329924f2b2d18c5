// preflight: can this recipe run here?
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct PreflightVerb {
  static constexpr VerbText kText{
      .name = "preflight", .help = "says whether the recipe can run here; exit 0 only when it can"};

  std::vector<std::string> cards;

  void declare(OptionList& list) {
    declare_recipe(list);
    list.texts("--card", cards, "NAME|SIZE",
               "plan for a card that is not here: gtx1660, rtx3090, a100-40gb ..., or its memory "
               "(24GB); may be given again");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
