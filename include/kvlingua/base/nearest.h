// The name closest to a mistyped or missing one, for "did you mean".
//
// Distance: edits of one character, an exchange of two neighbours counting once (optimal string
// alignment); '-' and '_' are equal and case is ignored.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kvlingua {

size_t edit_distance(std::string_view a, std::string_view b);

// Empty when no name is within `most` edits. `name_of` maps an element of `range` to its name.
template <class Range, class NameOf>
std::string nearest_name(std::string_view name, const Range& range, NameOf name_of, size_t most) {
  constexpr size_t kLongestName = 256;  // names come from files: time is bounded
  std::string best;
  if (name.size() > kLongestName) return best;
  size_t best_distance = most + 1;
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

// Among names a person types: half of the word may be wrong, and the beginning of a name finds it
// (lambda_grid -> lambda).
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace kvlingua
