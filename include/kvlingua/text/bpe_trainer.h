// A small trainer of byte-level BPE tokenizers (Sennrich et al. 2016), written as a Qwen2-style
// tokenizer.json.
//
// Text is cut by Qwen2's pre-tokenisation pattern, words are counted, and the most frequent pair of
// neighbouring symbols is merged until the vocabulary is full. Ties go to the pair whose symbols
// are older, so the result depends on the texts alone. Made for vocabularies of a few hundred to a
// few thousand entries: every merge rescans the distinct words that hold it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlingua {

struct BpeVocabulary {
  std::vector<std::string> tokens;  // by id, as bytes: 256 single bytes, then merges
  std::vector<std::pair<std::string, std::string>> merges;  // as bytes, in order
};

class BpeTrainer {
 public:
  BpeTrainer();
  ~BpeTrainer();
  BpeTrainer(const BpeTrainer&) = delete;
  BpeTrainer& operator=(const BpeTrainer&) = delete;

  // Throws Error (kInput) for text that is not UTF-8.
  void add(std::string_view text);
  // At most `vocab_size` entries, fewer when no pair occurs `min_count` times. Throws Error
  // (kUsage) below 256.
  BpeVocabulary train(int64_t vocab_size, int64_t min_count = 2) const;

 private:
  struct Pattern;
  Pattern* pattern_;
  std::map<std::string, int64_t, std::less<>> counts_;
};

// tokenizer.json as Qwen2 and Qwen3 have it: NFC, the pattern, byte level, BPE; `special` get the
// ids after the vocabulary.
struct AddedToken {
  std::string text;
  bool special = true;
};
std::string to_tokenizer_json(const BpeVocabulary& vocabulary,
                              const std::vector<AddedToken>& added);

}  // namespace kvlingua
