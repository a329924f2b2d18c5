// ask: a question through a translated cache.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct AskVerb {
  static constexpr VerbText kText{
      .name = "ask",
      .help = "the source reads --context, the target answers from its translated cache",
      .sections = "pair"};

  std::string context;  // a text, a file, or "-"
  bool beside = false;
  std::string stage, checkpoint;
  int64_t limit = 0;

  void declare(OptionList& list) {
    list.named_arguments("RECIPE|CHECKPOINT_QUESTION",
                         "a recipe whose run is used, or the folder of a run or checkpoint; then "
                         "the question; without one, on a terminal, a dialogue",
                         1, 2);
    list.text("--context", context, "TEXT|FILE|-",
              "what only the source reads: a text, a file, or - for stdin");
    list.require("--context");
    list.flag("--beside", beside,
              "the target's answers with the context as text and without it, with the time to the "
              "first token and the bytes moved");
    list.text("--stage", stage, "NAME", "of this stage: " + listed_stages());
    list.text("--checkpoint", checkpoint, "DIR", "this checkpoint instead of the run's latest");
    list.number("--limit", limit, "at most N tokens of answer (256)");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
