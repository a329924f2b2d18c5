// The edge of the program: whatever is thrown becomes one line on stderr and an exit code, never an
// abort.
#pragma once

#include <functional>
#include <string>

#include "kvlingua/base/error.h"

namespace kvlingua {

// What ended the program: the line that stderr gets, its parts where it was an Error, and the exit
// code.
struct Failure {
  std::string line;
  ErrorParts parts;
  ExitCode code = ExitCode::kFailed;
};
// `also` is told of a failure once its line is out; nothing that it throws gets further.
void tell_failures_to(std::function<void(const Failure&)> also);

// Runs `body`. Error: its line and code. std::bad_alloc: 5. A full disk in the standard library: 7.
// Anything else: 1.
int guarded(const std::function<int()>& body);
// An exception that escapes a thread ends the process with a line and exit code 1 instead of
// abort().
void install_terminate_line();

}  // namespace kvlingua
