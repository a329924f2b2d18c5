// The name closest to a mistyped or missing one, for "did you mean": Levenshtein distance, at most
// a third of the name.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace kvlingua {

inline size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

// Empty when nothing is close. `name_of` maps an element of `range` to its name.
template <class Range, class NameOf>
std::string nearest_name(std::string_view name, const Range& range, NameOf name_of) {
  constexpr size_t kLongestName = 256;
  std::string best;
  size_t best_distance = name.size() / 3 + 1;
  if (name.size() > kLongestName) return best;
  for (const auto& element : range) {
    const std::string_view candidate = name_of(element);
    const size_t gap = candidate.size() > name.size() ? candidate.size() - name.size()
                                                      : name.size() - candidate.size();
    if (gap >= best_distance) continue;
    const size_t distance = edit_distance(name, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

}  // namespace kvlingua
