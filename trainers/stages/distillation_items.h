// What distillation trains on: contexts with a question (or the beginning of an answer), in tokens
// of both models.
//
//   target:  before + span + rest + answer        source:  before + source_span
// The pieces are tokenised apart, as everywhere (chat_template.h). The answer ends with the token
// that ends the turn, so that stopping is taught as well.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "datasets/corpus/families.h"
#include "datasets/corpus/fresh_families.h"
#include "kvlingua/bridge/text_reader.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/text/alignment.h"

namespace kvlingua {

struct DistillationItem {
  std::vector<int64_t> source_span, span, rest, answer;  // token ids
  std::vector<int64_t> source_index;                     // [span] the source token each takes
};

// Items without end: number n is a function of the seed and n alone, so a run resumes from a
// number. Texts too long for a model are passed over.
class FreshItems {
 public:
  // `other`: items of another kind by their number (continuations); `share` of all items are those.
  using Other = std::function<DistillationItem(uint64_t)>;
  FreshItems(const DistillationOptions& options, FamilyStyle style, uint64_t seed, ValuePart part,
             const TextReader& source, const TextReader& target, AlignmentKind alignment,
             Other other = {}, double share = 0);
  // Throws Error (kInput) when nothing fits the models. Thread-safe where `other` is.
  DistillationItem item(uint64_t number) const;

 private:
  FreshFamilies families_;
  uint64_t seed_;
  TextReader source_, target_;
  AlignmentKind alignment_;
  int64_t max_answer_;
  Other other_;
  double share_;
};

// A list instead: the first options.items of them.
std::vector<DistillationItem> make_distillation_items(const DistillationOptions& options,
                                                      const FreshItems& fresh);

// Whether no piece is empty and both models have positions for all of it.
bool can_be_read(const DistillationItem& item, const TextReader& source, const TextReader& target);

// A control: every item gets the source of the next one, token by token. Nothing can be learnt.
void deal_sources_on(std::vector<DistillationItem>& items);

// What an item's pieces are in text.
struct DistillationText {
  std::string context, rest, answer;
  bool ends_turn = false;  // the answer ends with the token that ends the turn
};
// One item from text; empty spans or answers give an item without an answer.
DistillationItem make_distillation_item(const DistillationText& text, const TextReader& source,
                                        const TextReader& target, AlignmentKind alignment,
                                        int64_t max_answer);

}  // namespace kvlingua
