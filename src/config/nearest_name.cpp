#include <algorithm>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {
namespace {

// Damerau-Levenshtein distance (optimal string alignment); '-' and '_' count as equal, case is
// ignored.
size_t edit_distance(std::string_view a, std::string_view b) {
  const auto same = [](char x, char y) {
    const auto fold = [](char c) {
      return c == '-' ? '_' : static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    };
    return fold(x) == fold(y);
  };
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min(
          {d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1)});
      if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.size() > 200) return {};
  size_t best = 1 + std::max<size_t>(1, word.size() / 2);
  std::string name;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best) {
      best = distance;
      name = candidate;
    }
  }
  if (name.empty() && word.size() >= 3) {  // lambda_grid -> lambda
    for (const std::string& candidate : candidates) {
      if (candidate.size() >= 3 && (candidate.starts_with(word) || word.starts_with(candidate)))
        return candidate;
    }
  }
  return name;
}

}  // namespace kvlingua
