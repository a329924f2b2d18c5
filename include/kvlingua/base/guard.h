// The edge of the program: whatever is thrown becomes one line on stderr and an exit code, never an
// abort.
#pragma once

#include <functional>

namespace kvlingua {

// Runs `body`. Error: its line and code. std::bad_alloc: 5. A full disk in the standard library: 7.
// Anything else: 1.
int guarded(const std::function<int()>& body);
// An exception that escapes a thread ends the process with a line and exit code 1 instead of
// abort().
void install_terminate_line();

}  // namespace kvlingua
