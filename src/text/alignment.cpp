#include "kvlingua/text/alignment.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr std::array<std::pair<AlignmentKind, std::string_view>, 4> kNames = {{
    {AlignmentKind::kIdentity, "identity"},
    {AlignmentKind::kLastChar, "last_char"},
    {AlignmentKind::kFirst, "first"},
    {AlignmentKind::kLongest, "longest"},
}};

using Offset = std::pair<int64_t, int64_t>;

int64_t overlap(const Offset& a, const Offset& b) {
  return std::max<int64_t>(0, std::min(a.second, b.second) - std::max(a.first, b.first));
}

Alignment identity(const Encoding& source, const Encoding& target) {
  const size_t common = std::min(source.size(), target.size());
  for (size_t i = 0; i < common; ++i) {
    if (source.ids[i] == target.ids[i]) continue;
    throw Error({.code = ExitCode::kInput,
                 .where = cat("alignment identity: token ", i),
                 .what = "the tokenizers differ",
                 .got = cat("source id ", source.ids[i], ", target id ", target.ids[i]),
                 .expected = "the same ids",
                 .remedy = "use alignment last_char"});
  }
  if (source.size() != target.size()) {
    throw Error({.code = ExitCode::kInput,
                 .where = cat("alignment identity: token ", common),
                 .what = "the tokenizers differ",
                 .got = cat(source.size(), " source and ", target.size(), " target tokens"),
                 .expected = "as many",
                 .remedy = "use alignment last_char"});
  }
  Alignment alignment;
  alignment.source_index.resize(target.size());
  for (size_t t = 0; t < target.size(); ++t) alignment.source_index[t] = static_cast<int64_t>(t);
  return alignment;
}

int64_t length(const Offset& o) { return o.second - o.first; }

// As C2C: the source token that is longest by itself, the earliest of equals, among those in
// [begin, end).
size_t longest(const std::vector<Offset>& source, size_t begin, size_t end) {
  size_t best = begin;
  for (size_t i = begin + 1; i < end; ++i) {
    if (length(source[i]) > length(source[best])) best = i;
  }
  return best;
}

// The source token in [begin, end) that holds the last character of target token t. Where several
// tokens share that character (the bytes of an emoji), they pair off from the last one backwards,
// so that equal tokenizers align one to one.
size_t holder_of_last(const std::vector<Offset>& source, const std::vector<Offset>& target,
                      size_t t, size_t begin, size_t end) {
  const Offset last_char = {target[t].second - 1, target[t].second};
  size_t sharing = 0;  // later target tokens
  while (t + sharing + 1 < target.size() && overlap(target[t + sharing + 1], last_char) > 0)
    ++sharing;
  size_t holder = end - 1;
  while (sharing-- > 0 && holder > begin && overlap(source[holder - 1], last_char) > 0) --holder;
  return holder;
}

}  // namespace

std::string to_string(AlignmentKind kind) {
  for (const auto& [value, name] : kNames) {
    if (value == kind) return std::string(name);
  }
  return "identity";
}

AlignmentKind alignment_kind_from_name(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "alignment",
               .what = "unknown kind",
               .got = printable(name, 40),
               .expected = "identity, last_char, first or longest"});
}

Alignment align(const Encoding& source, const Encoding& target, AlignmentKind kind) {
  if (kind == AlignmentKind::kIdentity) return identity(source, target);
  Alignment alignment;
  alignment.kind = kind;
  if (target.size() == 0) return alignment;
  if (source.size() == 0) {
    throw Error({.code = ExitCode::kInput,
                 .where = "alignment",
                 .what = "the source has no tokens",
                 .expected = cat("some for ", target.size(), " target tokens")});
  }
  alignment.source_index.reserve(target.size());
  size_t exact = 0, covered = 0;
  size_t first = 0;  // source tokens before this one end before the target token begins
  for (size_t i = 0; i < target.size(); ++i) {
    const Offset& t = target.offsets[i];
    if (i > 0 && t.first < target.offsets[i - 1].first) first = 0;
    while (first < source.size() && source.offsets[first].second <= t.first) ++first;
    size_t begin = first, end = first;
    while (end < source.size() && source.offsets[end].first < t.second) ++end;
    // Source tokens without a character of their own may stand between the others.
    while (begin < end && overlap(source.offsets[begin], t) == 0) ++begin;
    while (end > begin && overlap(source.offsets[end - 1], t) == 0) --end;
    size_t chosen = first > 0 ? first - 1 : 0;  // nothing overlaps: the nearest one before
    if (begin < end) {
      chosen = kind == AlignmentKind::kFirst ? begin
               : kind == AlignmentKind::kLongest
                   ? longest(source.offsets, begin, end)
                   : holder_of_last(source.offsets, target.offsets, i, begin, end);
    }
    alignment.source_index.push_back(static_cast<int64_t>(chosen));
    const bool same =
        source.offsets[chosen] == t;  // also of two tokens that stand for no character, as BOS
    if (same) ++exact;
    if (same || begin < end) ++covered;
  }
  alignment.exact = static_cast<double>(exact) / static_cast<double>(target.size());
  alignment.covered = static_cast<double>(covered) / static_cast<double>(target.size());
  return alignment;
}

}  // namespace kvlingua
