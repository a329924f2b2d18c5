// Distillation items from any text: a document's beginning is the context, how it goes on is what
// the target must say. No question, no chat turn between: the first word of the continuation is
// read by the target, the words after it are scored.
#pragma once

#include <optional>
#include <string_view>

#include "kvlingua/base/random.h"
#include "trainers/stages/distillation_items.h"

namespace kvlingua {

// Adds options.continuations items from the recipe's corpus (fewer where it has fewer documents)
// and mixes them with those that are there. Documents kept for validation and of the other split
// are passed over; spans hold data.max_length target tokens at most, answers
// train.distillation.max_answer. `data_seed`: the pair set's, which decides what is kept for
// validation. Throws Error (kInput) when no document can be divided.
void add_continuation_items(const Recipe& recipe, uint64_t seed, uint64_t data_seed,
                            const DistillationReader& source, const DistillationReader& target,
                            std::vector<DistillationItem>& items);

// Where a text is divided: the context's end and the first word's, in bytes, both at the beginning
// of white space where there is any between the text's second and fourth fifth, else of a
// character. None: too short.
struct Division {
  size_t context = 0, word = 0;
};
std::optional<Division> divide(std::string_view text, Random& random);

}  // namespace kvlingua
