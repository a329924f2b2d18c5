// The clock that durations are measured with: it never jumps.
#pragma once

#include <chrono>

namespace kvlingua {

// Seconds since an arbitrary moment.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace kvlingua
