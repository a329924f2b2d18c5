#include "eval/statistics/duplicates.h"

#include <algorithm>
#include <unordered_map>

namespace kvlingua::stats {

Distinct distinct(const std::vector<std::string>& keys) {
  Distinct result;
  std::unordered_map<std::string, int64_t> seen;
  for (size_t i = 0; i < keys.size(); ++i) {
    int64_t& count = seen[keys[i]];
    if (count++ == 0) result.kept.push_back(i);
    result.largest = std::max(result.largest, count);
  }
  result.duplicates = static_cast<int64_t>(keys.size() - result.kept.size());
  return result;
}

}  // namespace kvlingua::stats
