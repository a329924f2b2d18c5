// The entry of the library that main.cpp loads: from a parsed command line to the verb's action,
// and from whatever is thrown to one line and an exit code.
#include <c10/util/Exception.h>

#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/base/guard.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/mapped_files.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/config/command_line.h"
#include "kvlingua/config/options_json.h"
#include "list.h"

namespace kvlingua {
namespace {

void set_verbosity(int verbosity) {
  set_log_level(verbosity < 0    ? LogLevel::kWarning
                : verbosity == 0 ? LogLevel::kInfo
                                 : LogLevel::kDebug);
  set_progress_mode(verbosity < 0 ? ProgressMode::kNone : ProgressMode::kAuto);
}

// torch's errors carry a stack trace; its first line is enough, and running out of memory has a
// code of its own.
int run(const ParsedCommandLine& parsed) {
  try {
    for (const Verb& verb : verbs::all_verbs<true>())
      if (verb.run && parsed.command.verb == verb.text.name)
        return verb.run(parsed.command, parsed.options.get());
    throw Error({.where = parsed.command.verb, .what = "has no action"});
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const std::string line = printable(text.substr(0, text.find('\n')), 300);
    const bool memory = text.find("out of memory") != std::string::npos ||
                        text.find("can't allocate memory") != std::string::npos;
    if (!memory) throw Error({.what = "torch: " + line});
    throw Error({.code = ExitCode::kDevice,
                 .what = line,
                 .remedy = "lower data.batch_tokens or train.*.batch.size, use "
                           "pair.source.layer_streaming or data.sequential; "
                           "`kvlingua preflight` says what fits"});
  }
}

}  // namespace
}  // namespace kvlingua

extern "C" __attribute__((visibility("default"))) int kvlingua_main(
    const kvlingua::ParsedCommandLine& parsed) {
  kvlingua::install_terminate_line();
  kvlingua::install_bus_error_line();
  kvlingua::watch_stop_signals();
  if (parsed.command.json_on_stdout()) kvlingua::tell_failures_to(kvlingua::write_failure);
  return kvlingua::guarded([&] {
    kvlingua::set_verbosity(parsed.command.verbosity);
    return kvlingua::run(parsed);
  });
}
