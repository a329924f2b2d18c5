// Alignment: for each target token the source token whose cache entry it takes.
//
// Both tokenizers read the same text their own way. last_char (default): the source token that
// holds the target token's last character, since only that source position has read the whole
// target token (tokens that are parts of one character pair off from the last one backwards). first
// / longest: as Cache-to-Cache aligns (the first, or the longest, source token that overlaps).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

enum class AlignmentKind { kIdentity, kLastChar, kFirst, kLongest };
std::string to_string(AlignmentKind kind);
AlignmentKind alignment_kind_from_name(std::string_view name);  // throws Error (kUsage)

struct Alignment {
  // source_index[t] = index into the source tokens for target token t.
  std::vector<int64_t> source_index;
  AlignmentKind kind = AlignmentKind::kIdentity;
  // Share of target tokens whose characters equal exactly those of their source token.
  double exact = 1.0;
  // Share of target tokens that overlap at least one source token (the others take the nearest one
  // before).
  double covered = 1.0;
};

// Both encodings are of the same text. kIdentity demands equal ids (throws Error kInput naming the
// first difference).
Alignment align(const Encoding& source, const Encoding& target, AlignmentKind kind);

}  // namespace kvlingua
