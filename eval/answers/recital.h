// Recital: an answer that says the whole context over again instead of answering.
//
// Exactness asks for the markers alone, so a target that lists everything the source read is right
// on every question about it without having understood one. What full_text says to the same item is
// no recital, however wordy: only words of the context beyond it count, and neither those of the
// prompt nor those of the markers.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/judging/guards.h"

namespace kvlingua {

// An answer recites when it says at least kRecitedWords different words of the context that nobody
// asked for, and at least the share kRecitedShare of all such words.
inline constexpr int kRecitedWords = 6;
inline constexpr double kRecitedShare = 0.5;
// More recitals than this among the judged condition's right answers withhold the verdict.
inline constexpr double kRecitalBound = 0.05;

// Whether `text` recites the context of `probe`; `reference` is what full_text answered.
bool recites(const Probe& probe, std::string_view text, std::string_view reference);

// The finding answers_recite on `condition`, if it stands.
std::optional<Finding> find_recitals(const Answers& answers, const std::vector<Probe>& probes,
                                     const std::string& condition);

}  // namespace kvlingua
