// What the benchmarks measure with. KVLINGUA_BENCH_CLOCK=cpu counts processor time instead of wall
// time, for a machine that has other work.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace kvlingua::bench {

// Seconds.
inline double now() {
  static const char* const kind = std::getenv("KVLINGUA_BENCH_CLOCK");
  timespec t{};
  clock_gettime(kind != nullptr && std::string_view(kind) == "cpu" ? CLOCK_PROCESS_CPUTIME_ID
                                                                   : CLOCK_MONOTONIC,
                &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace kvlingua::bench
