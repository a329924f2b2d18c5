// quickstart: everything of a recipe in one go.
#pragma once

#include <string_view>

#include "run_options.h"

namespace kvlingua::verbs {

struct QuickstartVerb {
  static constexpr VerbText kText{
      .name = "quickstart",
      .help = "preflight, generate, train, evaluate, sweep, identity; what is done is skipped"};

  RunOptions options;
  // A small run that preflight started, of a recipe with so many rows of training; 0: it is none.
  int64_t rehearsal = 0;
  std::vector<std::string> parts;  // named; none means all that exist

  void declare(OptionList& list) {
    list.arguments("RECIPE", "default: recipe/nano.yaml", 0, 1);
    options.declare(list);
    options.declare_limit(list, "evaluate: first N items of each family only");
    list.hidden("--rehearsal", rehearsal);
    for (const char* part : {"--preflight", "--train", "--validate", "--sweep", "--identity"})
      list.flag(part, parts, "this part (several may be named)");
  }
  int run(const CommandLine& command) const;
  bool wanted(std::string_view part) const;  // named, or none is
};

}  // namespace kvlingua::verbs
