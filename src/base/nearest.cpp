#include "kvlingua/base/nearest.h"

#include <algorithm>
#include <numeric>

namespace kvlingua {
namespace {

char folded(char c) {
  return c == '-' ? '_' : static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  const auto same = [&](size_t i, size_t j) { return folded(a[i]) == folded(b[j]); };
  // Rows i - 2, i - 1 and i of the usual table.
  std::vector<size_t> older(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] =
          std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (same(i - 1, j - 1) ? 0u : 1u)});
      if (i > 1 && j > 1 && same(i - 1, j - 2) && same(i - 2, j - 1))
        next[j] = std::min(next[j], older[j - 2] + 1);
    }
    older.swap(row);
    row.swap(next);
  }
  return row.back();
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string near = nearest_name(
      word, candidates, [](const std::string& name) { return std::string_view(name); },
      std::max<size_t>(1, word.size() / 2));
  if (!near.empty() || word.size() < 3) return near;
  for (const std::string& candidate : candidates) {
    if (candidate.size() >= 3 && (candidate.starts_with(word) || word.starts_with(candidate)))
      return candidate;
  }
  return {};
}

}  // namespace kvlingua
