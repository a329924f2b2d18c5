// Stopping in an orderly way: SIGTERM, SIGHUP and SIGINT set a flag, stages poll it between steps,
// save, and end.
//
// The first signal asks; a second Ctrl-C ends the process at once. Signals belong to the program,
// so only main.cpp watches them; libraries just ask stop_requested().
#pragma once

#include <string>

#include "kvlingua/base/error.h"

namespace kvlingua {

// Blocks the signals in the calling thread and all that it starts later, and waits for them in a
// thread of its own. No handler is installed: one would run on the stack of a thread that computes,
// and libtorch's CPU kernels keep data below what the ABI lets them (128 bytes past the stack
// pointer), which its frame overwrites. To be called before other threads are started.
// Also ignores SIGPIPE.
void watch_stop_signals();
bool stop_requested() noexcept;  // cheap: one relaxed atomic load
// kTerminated (75) after SIGTERM or SIGHUP, kInterrupted (130) after Ctrl-C,
// kOk when nothing was asked.
ExitCode stop_exit_code() noexcept;
// What a stage throws once it has saved: "stopped by Ctrl-C; <saved>".
Error stopped_error(const std::string& saved);

// For tests and embedding programs: as if the signal had come (0 takes it back).
void request_stop(int signal) noexcept;

}  // namespace kvlingua
