// Greedy decoding repeats itself exactly: the same input gives the same output, and counting it
// twice is counting nothing twice.
//
// An observation is known by everything that determines its score (what was read, what was
// answered, what is looked for). Equal observations are one: intervals count them once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvlingua::stats {

struct Distinct {
  std::vector<size_t> kept;  // index of the first of every set of equal keys, ascending
  int64_t duplicates = 0;    // keys.size() - kept.size()
  int64_t largest = 0;       // size of the largest set
};

Distinct distinct(const std::vector<std::string>& keys);

}  // namespace kvlingua::stats
