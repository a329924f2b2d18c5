// Held-out values by construction: every invented or listed value (a name, a place, a colour, a
// code) belongs to exactly one side, decided by a hash of its text. No list of "test items" has to
// be kept, and nothing can slip across.
#pragma once

#include <string_view>

#include "kvlingua/base/random.h"

namespace kvlingua {

enum class Split { kTrain, kHeldOut };

// One value in four is held out; the side depends on the text alone, never on a seed.
inline Split split_of(std::string_view value) {
  return mix(hash_name("split"), hash_name(value)) % 4 == 0 ? Split::kHeldOut : Split::kTrain;
}

}  // namespace kvlingua
