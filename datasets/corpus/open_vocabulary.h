// An open vocabulary: names, places and values that no list holds, of any make-up and script.
//
// A map between two caches that has seen a thousand names knows a thousand names. What it must
// carry are names it has never seen, cut by a tokenizer in ways it has never seen; so what it
// learns from has to be without end: syllables of several sound systems, letters with marks,
// compounds of common words, six other scripts, codes, dates, amounts, addresses, identifiers.
// Draws of one person or place come from more than 10^9 each, so two are hardly ever alike.
//
// A value stands on one of three sides for good, by a hash of its text alone: what is trained on,
// what chooses between states of training, and what evaluation asks for (split.h).
#pragma once

#include <string>
#include <string_view>

#include "datasets/corpus/split.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

enum class ValuePart { kTraining, kValidation, kHeldOut };

// The side of one word or value. Validation is a sixth of split_of()'s training side.
ValuePart part_of(std::string_view value);
// Whether each word of a value (a person's given and family name) stands on this side.
bool all_words_of(ValuePart part, std::string_view value);

// What a value is like; kAny is any of the others.
enum class ValueKind { kPerson, kPlace, kWord, kCode, kNumber, kDate, kAddress, kPhrase, kAny };

std::string open_person(ValuePart part, Random& random);
std::string open_place(ValuePart part, Random& random);
std::string open_value(ValueKind kind, ValuePart part, Random& random);

}  // namespace kvlingua
