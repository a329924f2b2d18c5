// verify: every file of a pair set or checkpoint read again.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct VerifyVerb {
  static constexpr VerbText kText{
      .name = "verify",
      .help = "re-reads pair sets and checkpoints, names every damaged file (exit 6)"};

  void declare(OptionList& list) {
    list.arguments("PATH", "pair sets and checkpoints", 1, 1 << 20);
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
