// From a verb's name to the function that does it (verbs/), and from whatever is thrown to one line
// and an exit code.
//
// Built with the verbs as a shared library that the launcher loads when a verb needs torch.
#include <c10/util/Exception.h>

#include <map>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/base/guard.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/mapped_files.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/config/command_line.h"
#include "verbs/verbs.h"

namespace kvlingua {
namespace {

using VerbFunction = int (*)(const CommandLine&);
const std::map<std::string, VerbFunction>& verb_table() {
  static const std::map<std::string, VerbFunction> table = {{"preflight", verbs::preflight},
                                                            {"generate", verbs::generate},
                                                            {"verify", verbs::verify},
                                                            {"train", verbs::train},
                                                            {"evaluate", verbs::evaluate},
                                                            {"quickstart", verbs::quickstart},
                                                            {"import", verbs::import_from},
                                                            {"export", verbs::export_to},
                                                            {"ask", verbs::ask},
                                                            {"inspect", verbs::inspect},
                                                            {"nano-lm", verbs::nano_lm},
                                                            {"sweep", verbs::sweep},
                                                            {"identity", verbs::identity}};
  return table;
}

void set_verbosity(int verbosity) {
  set_log_level(verbosity < 0    ? LogLevel::kWarning
                : verbosity == 0 ? LogLevel::kInfo
                                 : LogLevel::kDebug);
  set_progress_mode(verbosity < 0 ? ProgressMode::kNone : ProgressMode::kAuto);
}

// torch's errors carry a stack trace; its first line is enough, and running out of memory has a
// code of its own.
int run(const CommandLine& command) {
  try {
    const auto verb = verb_table().find(command.verb);
    if (verb == verb_table().end()) verbs::not_in_this_version(command.verb);
    return verb->second(command);
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
    const kvlingua::CommandLine& command) {
  kvlingua::install_terminate_line();
  kvlingua::install_bus_error_line();
  kvlingua::watch_stop_signals();
  return kvlingua::guarded([&] {
    kvlingua::set_verbosity(command.verbosity);
    return kvlingua::run(command);
  });
}
