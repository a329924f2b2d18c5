// What the benchmarks share: their clock and their median.
#pragma once

#include <algorithm>
#include <vector>

#include "kvlingua/base/clock.h"

namespace kvlingua::bench {

inline double now() { return measured_seconds(); }

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace kvlingua::bench
