// Distillation items from any text: a document's beginning is the context, how it goes on is what
// the target must say. No question, no chat turn between: the first word of the continuation is
// read by the target, the words after it are scored.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "kvlingua/base/random.h"
#include "trainers/stages/distillation_items.h"

namespace kvlingua {

// Continuations of the recipe's corpus, one document after the other in an order of the seed's own.
// Documents kept for validation, of the other split, and those that cannot be divided are passed
// over; spans hold data.max_length target tokens at most, answers train.distillation.max_answer.
// `data_seed`: the pair set's, which decides what is kept for validation.
class Continuations {
 public:
  Continuations(const Recipe& recipe, uint64_t seed, uint64_t data_seed, const TextReader& source,
                const TextReader& target);
  ~Continuations();
  int64_t documents() const;
  // Of the document at this place of the order (it goes round), divided by `division_seed`; none
  // where it is passed over.
  std::optional<DistillationItem> item(int64_t place, uint64_t division_seed) const;
  // That of the first document from `number`'s place on that has one. Throws Error (kInput) when no
  // document has.
  DistillationItem fresh(uint64_t number) const;

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

// Adds options.continuations items (fewer where the corpus has fewer documents) and mixes them with
// those that are there. Throws Error (kInput) when no document can be divided.
void add_continuation_items(const Continuations& continuations, int64_t count, uint64_t seed,
                            std::vector<DistillationItem>& items);

// Where a text is divided: the context's end and the first word's, in bytes, both at the beginning
// of white space where there is any between the text's second and fourth fifth, else of a
// character. None: too short.
struct Division {
  size_t context = 0, word = 0;
};
std::optional<Division> divide(std::string_view text, Random& random);

}  // namespace kvlingua
