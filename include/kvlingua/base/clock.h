// Clocks for what a run says of itself: seconds of the wall, of this thread's processor, of all of
// the process' threads.
#pragma once

#include <cstdlib>
#include <ctime>
#include <string_view>

namespace kvlingua {

inline double clock_seconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
inline double wall_seconds() { return clock_seconds(CLOCK_MONOTONIC); }
inline double thread_cpu_seconds() { return clock_seconds(CLOCK_THREAD_CPUTIME_ID); }
inline double process_cpu_seconds() { return clock_seconds(CLOCK_PROCESS_CPUTIME_ID); }
// What stages and benchmarks are measured by: the wall, or with KVLINGUA_BENCH_CLOCK=cpu the
// process' threads together, which a machine that has other work does not change.
inline bool measured_by_processor() {
  static const char* const kind = std::getenv("KVLINGUA_BENCH_CLOCK");
  return kind != nullptr && std::string_view(kind) == "cpu";
}
inline double measured_seconds() {
  return measured_by_processor() ? process_cpu_seconds() : wall_seconds();
}

}  // namespace kvlingua
