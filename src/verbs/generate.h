// generate: paired caches.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct GenerateVerb {
  static constexpr VerbText kText{.name = "generate",
                                  .help = "paired caches into datasets/<name>/; resumes",
                                  .sections = "pair data"};

  RunOptions options;
  bool layer_streaming = false, skip_bad = false;
  int64_t writers = 0;

  void declare(OptionList& list) {
    declare_recipe(list);
    options.declare(list);
    options.declare_limit(list, "at most N samples, for a quick look");
    declare_streaming(list, layer_streaming);
    list.number(
        "--writers", writers,
        "shards written at once (0: one on a CPU, four on a GPU); their bytes are the same");
    list.flag("--skip-bad", skip_bad, "skip and count malformed samples");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
