// Items without end: each a function of (seed, number) alone, so a stream of them needs no list,
// no state, and no item is read twice.
//
//   identity, counterfact, needle   as families.h has them, of values that stand on one side of the
//                                   split of open_vocabulary.h
//   open        one to five statements about things and people, in many layouts (sentences, lists,
//               records, dialogue), all names and values from the open vocabulary; asked for one of
//               them, or for the text itself once more
// Evaluation never draws from here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/corpus/families.h"
#include "datasets/corpus/family_content.h"
#include "datasets/corpus/open_vocabulary.h"

namespace kvlingua {

// A text of the open family and what may be asked about it.
FamilyContent open_content(ValuePart part, Random& random);

class FreshFamilies {
 public:
  // `families` in turn. kHeldOut is evaluation's own and is refused (kUsage), as are unknown names.
  FreshFamilies(std::vector<std::string> families, FamilyStyle style, uint64_t seed,
                ValuePart part);
  // Form, phrasing and values are drawn anew; `group` and `id` stay empty.
  FamilyItem item(uint64_t number) const;

 private:
  std::vector<std::string> families_;
  FamilyStyle style_;
  uint64_t seed_;
  ValuePart part_;
};

}  // namespace kvlingua
