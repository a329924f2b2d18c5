// Added tokens: words that are found in a text before anything else looks at it, special tokens
// among them.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "aligned_text.h"
#include "bpe.h"
#include "steps.h"

namespace kvlingua::text {

struct AddedToken {
  int64_t id = 0;
  std::string content;
  // What is looked for in normalised text, and what decoding starts from.
  std::string normalized_content;
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
};

// Finds the leftmost longest of a set of words.
class WordFinder {
 public:
  void add(std::string_view word, int32_t value);
  bool empty() const { return nodes_.size() == 1; }
  struct Found {
    size_t begin, end;
    int32_t value;
  };
  // The first match that begins at or after `from`.
  bool find(std::string_view text, size_t from, Found& found) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> children;  // sorted by byte
    int32_t value = -1;
  };
  uint32_t child(uint32_t node, unsigned char byte) const;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<bool, 256> starts_{};
};

class AddedTokens {
 public:
  // Ids must continue those of the model without a hole, as `tokenizers` would give them.
  AddedTokens(const std::optional<JsonView>& json, const BpeModel& model,
              const Normalizer& normalizer);

  // Cuts added tokens out of the text and normalises the rest. Special ones that lie in part within
  // one of `literal` (ranges of characters of the original text, in order) are left as text.
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  void extract(AlignedText& text, const Normalizer& normalizer, const Ranges& literal) const;

  // Adds a token, or gives the one of the same text these rules; returns its id: that of the
  // vocabulary's word, or the next free one. Throws Error (kInput) naming `where`.
  int64_t put(AddedToken token, const BpeModel& model, const Normalizer& normalizer,
              const std::string& where);

  const AddedToken* by_id(int64_t id) const;
  const AddedToken* by_content(std::string_view content) const;
  bool is_special_text(std::string_view text) const { return special_.contains(std::string(text)); }
  int64_t vocab_size() const { return vocab_size_; }
  std::string digest() const;

 private:
  void find_again(const std::string& where);
  void split(const WordFinder& finder, AlignedText& text, const Ranges& literal) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<int64_t, size_t> index_of_id_;
  std::unordered_map<std::string, size_t, StringHash, std::equal_to<>> index_of_content_;
  std::unordered_set<std::string> special_;
  WordFinder plain_, normalized_;
  int64_t vocab_size_ = 0;
};

}  // namespace kvlingua::text
