// The nano language: a small, regular English in which two-megabyte models can read, answer and
// know something.
//
// Invented words are strings of syllables: persons ("Lokari"), places ("Temador", with one of eight
// endings) and plain words ("vemoka": colours and keys nobody knows). Known facts are 40 real
// capitals and 20 colours; a statement about them in a context is always counterfactual, with an
// invented value. Splits are by value (split.h): held-out words occur in no training document. The
// corpus (synthetic_corpus.h) and the kNano families are written in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "datasets/corpus/family_content.h"
#include "datasets/corpus/split.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

// What is true without any context: "the capital of France" is "Paris".
struct KnownFact {
  enum class Kind { kCapital, kColour } kind;
  std::string subject;  // "France", "sky"
  std::string value;    // "Paris", "blue"
};
const std::vector<KnownFact>& known_facts();  // 40 capitals, then 20 colours

// What invented words are made of. The nano tokenizer is made to cut words here.
const std::vector<std::string>& nano_syllables();
const std::vector<std::string>& nano_place_endings();

// Invented words of one split.
std::string invent_person(Split split, Random& random);
std::string invent_place(Split split, Random& random);
std::string invent_word(Split split, Random& random);

// Something that can be asked. The answer's sentence is beginning + " " + value + ending.
struct NanoTopic {
  enum class Kind { kIdentity, kFact, kKey } kind = Kind::kIdentity;
  size_t fact = 0;     // kFact: index into known_facts()
  std::string object;  // kKey: whose key it is: "lamp"

  std::string name()
      const;  // "identity", "capital of France", "colour of the sky", "key of the lamp"
};
std::string nano_question(const NanoTopic& topic, Random& random);
std::string nano_beginning(const NanoTopic& topic);
// The rest of the answer where the context stated `values` ({person, place} for kIdentity, else
// {value}).
std::string nano_rest(const NanoTopic& topic, const std::vector<std::string>& values);
// The whole answer, and the rest after nano_beginning(), where nothing was said and nothing is
// known.
inline constexpr std::string_view kNanoUnknown = "I do not know.";
inline constexpr std::string_view kNanoUnknownRest = " not known.";

// One statement about a topic in a context; its values are what an answer must contain.
struct NanoStatement {
  NanoTopic topic;
  std::vector<std::string> values;
};

// What a context is made of; sentences stand in random order. All topics differ.
struct NanoContext {
  std::string text;
  std::vector<NanoStatement> statements;
};
struct NanoContextMix {
  double identity = .75;
  double facts = .75;      // has counterfactual statements: 1 to 3
  double keys = .25;       // has keys: 1 or 2
  double filler = .40;     // has 1 or 2 sentences that say nothing asked
  double bystander = .10;  // tells where somebody else lives
};
// Never empty: what the mix leaves empty becomes a counterfactual statement.
NanoContext make_nano_context(Split split, const NanoContextMix& mix, Random& random);

}  // namespace kvlingua
