// Prints one hash for each family, form, split and style, and one of the built-in corpus: equal for
// every compiler (tests/cli/same_items_test.py).
#include <cstdint>
#include <cstdio>

#include "datasets/corpus/families.h"
#include "datasets/corpus/synthetic_corpus.h"

int main() {
  using namespace kvlingua;  // NOLINT
  const auto print = [](uint64_t hash) {
    std::printf("%016llx\n", static_cast<unsigned long long>(hash));
  };
  for (FamilyStyle style : {FamilyStyle::kNano, FamilyStyle::kEnglish})
    for (const auto& family : family_names())
      for (bool completion : {false, true})
        for (Split split : {Split::kTrain, Split::kHeldOut}) {
          uint64_t hash = 0;
          for (const auto& item : make_family({.family = family,
                                  .completion = completion,
                                  .split = split,
                                  .n = 100,
                                  .seed = 7,
                                  .style = style})) {
            hash = mix(hash,
                       hash_name(item.context + item.prompt + item.answer + item.group + item.id));
            for (const auto& marker : item.markers) hash = mix(hash, hash_name(marker));
            for (const auto& known : item.parametric) hash = mix(hash, hash_name(known));
          }
          print(hash);
        }
  const SyntheticCorpus corpus(3);
  uint64_t hash = 0;
  for (uint64_t i = 0; i < 300; ++i) {
    const SyntheticDialogue dialogue = corpus.dialogue(i);
    hash = mix(hash, hash_name(dialogue.context + dialogue.system));
    for (const auto& turn : dialogue.turns)
      hash = mix(hash, hash_name(turn.question + turn.beginning + turn.answer));
    hash = mix(hash, hash_name(corpus.context(i)));
  }
  print(hash);
}
