// Stopping in an orderly way: SIGTERM and SIGINT set a flag, stages poll it between steps, save,
// and end.
//
// The first signal asks; a second Ctrl-C ends the process at once. Signal handlers belong to the
// program, so only main.cpp installs them; libraries just ask stop_requested().
#pragma once

#include <string>

#include "kvlingua/base/error.h"

namespace kvlingua {

void install_stop_handlers();
bool stop_requested() noexcept;  // cheap: one relaxed atomic load
// kTerminated (75) after SIGTERM, kInterrupted (130) after Ctrl-C, kOk when nothing was asked.
ExitCode stop_exit_code() noexcept;
// What a stage throws once it has saved: "stopped by Ctrl-C; <saved>".
Error stopped_error(const std::string& saved);

// For tests and embedding programs: as if the signal had come (0 takes it back).
void request_stop(int signal) noexcept;

}  // namespace kvlingua
