// import and export: checkpoints of other systems.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

inline void declare_interchange(OptionList& list) {
  list.named_arguments("FORMAT_FROM_TO", "format, where it is, where it goes", 3, 3);
}

struct ImportVerb {
  static constexpr VerbText kText{.name = "import",
                                  .help = "a checkpoint of another system: import c2c DIR OUT"};

  void declare(OptionList& list) { declare_interchange(list); }
  int run(const CommandLine& command) const;
};

struct ExportVerb {
  static constexpr VerbText kText{
      .name = "export",
      .help = "a checkpoint for another system: export c2c|safetensors|vllm CHECKPOINT OUT"};

  void declare(OptionList& list) { declare_interchange(list); }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
