// Options that several verbs declare in the same words.
#pragma once

#include "kvlingua/config/command_line.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/config/stages.h"

namespace kvlingua::verbs {

// Of everything that writes a run.
struct RunOptions {
  bool resume = false, restart = false, dry_run = false;
  int64_t limit = 0;  // of what, each verb says

  void declare(OptionList& list) {
    list.flag("--resume", resume, "go on with what is there (the default)");
    list.flag("--restart", restart, "throw away what this verb made before", "--resume");
    list.flag("--dry-run", dry_run, "print the resolved recipe and the plan, do nothing");
  }
  void declare_limit(OptionList& list, const char* help) { list.number("--limit", limit, help); }
  void apply(RunContext& context) const {
    context.restart = restart;
    context.resume = !restart;
    context.dry_run = dry_run;
    context.limit = limit;
  }
};

inline void declare_recipe(OptionList& list) {
  list.arguments("RECIPE", "a YAML file, or the name of a shipped recipe", 1, 1);
}
inline void declare_streaming(OptionList& list, bool& streaming) {
  list.flag("--layer-streaming", streaming,
            "two layers in memory at a time: for models larger than the device");
}
inline void declare_dtype(OptionList& list, std::string& dtype) {
  list.text("--dtype", dtype, "TYPE", "compute type", {"auto", "float32", "bfloat16", "float16"});
}

// "ridge, regression, ...", for a help line.
inline std::string listed_stages() {
  std::string text;
  for (const std::string_view name : stage_names())
    text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

}  // namespace kvlingua::verbs
