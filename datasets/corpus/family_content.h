// What one family item is about, before it takes its question or its completion form. Internal to
// datasets/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "datasets/corpus/split.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

struct FamilyContent {
  std::string context;
  std::string question;
  std::string beginning;  // the answer's first words, without a space at the end
  // The rest of the answer, with its leading space: beginning + rest is the whole answer.
  std::string rest;
  std::vector<std::string> markers;
  std::vector<std::string> parametric;
  std::string group;

  std::string answer() const { return beginning + rest; }
};

// One item of the nano language (synthetic_language.cpp) or in English (families_english.cpp).
// `family` is known to exist.
FamilyContent nano_content(std::string_view family, Split split, Random& random);
FamilyContent english_content(std::string_view family, Split split, Random& random);

// Replaces every {key} of a template; a key that stays unresolved is a programming error and
// throws.
std::string fill(std::string_view pattern,
                 const std::vector<std::pair<std::string_view, std::string_view>>& values);
// The pattern's first letter in upper case (ASCII).
std::string capitalised(std::string text);

}  // namespace kvlingua
