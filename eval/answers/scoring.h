// Scoring: what one generated answer is worth, by rules that are printed in the report.
//
// Matching ignores case and typography (subscript digits, curly quotes) and respects word
// boundaries: "100" is not in "1000". Knows no model; the same text always scores the same.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvlingua {

struct Probe;

// Lower case, subscript digits as digits, white space runs as one space, no space at the ends.
std::string normalise(std::string_view text);
// The words of a normalised text in their order: runs of letters and digits, and of bytes beyond
// ASCII.
std::vector<std::string> words_of(std::string_view normalised);
// Whether `marker` occurs in `text` as whole words (ASCII letters and digits glued to it make it
// another word).
bool occurs(std::string_view text, std::string_view marker);

enum class Stall { kNone, kEmpty, kEndOfTurnFirst, kEcho, kRepetition, kNoContent };
const char* to_string(Stall stall);
// One line a kind: the definition the report prints.
std::string stall_definition();

// `tokens`: how many were generated; `stopped`: by an end-of-turn token.
Stall stall_of(std::string_view text, std::string_view prompt, int64_t tokens, bool stopped);
// The shortest period of a repetition that fills the last half of the words at least, three times
// at least; 0: none.
int64_t repetition_period(const std::vector<std::string>& words);

enum class Knowledge { kInjected, kParametric, kBoth, kOther };
const char* to_string(Knowledge knowledge);

struct Score {
  bool exact = false;  // every marker occurs
  double partial = 0;  // share of markers that occur
  Stall stall = Stall::kNone;
  Knowledge knowledge = Knowledge::kOther;  // injected: all markers and nothing known by heart
  bool parametric = false;                  // something known by heart occurs
};
Score score(const Probe& probe, std::string_view text, int64_t tokens, bool stopped);

}  // namespace kvlingua
