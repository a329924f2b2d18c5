// Families of evaluation and training items made from templates: a context says something, a prompt
// asks for it.
//
//   identity    the context gives a name and a place; nothing but the context can know them
//   counterfact the context contradicts what the model knows by heart (capitals, colours, ...)
//   needle      the context hides a key or code among other sentences
//
// Each item exists in question form (a question, answered by a sentence) and in completion form
// (the beginning of that same sentence, to be finished): equal requests that differ in `completion`
// alone give the same contents in the same order. Values of the two splits never meet (split.h).
// Two styles: kNano is the language that the built-in corpus is written in (synthetic_language.h),
// kEnglish is natural English for real models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/corpus/split.h"

namespace kvlingua {

struct FamilyItem {
  std::string id;      // "counterfact-heldout-q-17-000003": family, split, form, seed, number
  std::string family;  // identity | counterfact | needle
  bool completion = false;
  std::string context;  // what the source reads; never empty
  std::string prompt;   // the question, or the beginning of the answer when `completion`
  std::vector<std::string> markers;  // all must occur in an exact answer; none occurs in `prompt`
  std::vector<std::string> parametric;  // what the model knows by heart, in its usual spellings:
                                        // any one counts; may be empty
  // The gold text that the assistant is to produce after the prompt. In completion form it is the
  // rest of the sentence with its leading space, so prompt + answer is the whole turn.
  std::string answer;
  // Items about the same thing share it: "capital of France"; for identity the person.
  std::string group;
};

enum class FamilyStyle { kNano, kEnglish };

struct FamilyRequest {
  std::string family = "identity";
  bool completion = false;
  Split split = Split::kHeldOut;
  int64_t n = 200;
  uint64_t seed = 0;
  FamilyStyle style = FamilyStyle::kNano;
};

// The names of the families, in the order reports use.
const std::vector<std::string>& family_names();

// n distinct items (distinct in contents, not just in phrasing). The first k of n items equal the k
// items of a smaller request. Throws Error: kUsage for an unknown family or n < 1, kInput when
// fewer distinct items exist.
std::vector<FamilyItem> make_family(const FamilyRequest& request);

}  // namespace kvlingua
