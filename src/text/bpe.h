// Byte-pair encoding: the `model` of a tokenizer.json (Sennrich et al. 2016), as the `tokenizers`
// library applies it.
//
// A word (one piece of the pre-tokenizer) starts as one symbol a character; then the neighbouring
// pair of lowest rank is merged, again and again, with a heap: O(n log n). Words seen before come
// from a bounded cache. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json_view.h"

namespace kvlingua::text {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using Vocab = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

class BpeModel {
 public:
  // Throws Error: kInput for what is not supported, kCorrupt for a vocabulary that cannot be.
  explicit BpeModel(const JsonView& json);
  ~BpeModel();

  struct Symbol {
    int32_t id = 0;
    uint32_t bytes = 0;  // of the word
  };
  void tokenize(std::string_view word, std::vector<Symbol>& out) const;

  const Vocab& vocab() const { return vocab_; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::string& token(int64_t id) const { return tokens_[static_cast<size_t>(id)]; }
  std::optional<int32_t> unk_id() const { return unk_id_; }
  // sha256 of all that determines the ids.
  std::string digest() const;

 private:
  struct Merge {
    uint32_t rank = 0;
    int32_t id = 0;
  };
  struct PairHash {
    size_t operator()(uint64_t pair) const;
  };
  class Cache;

  void read_vocab(const JsonView& json);
  void read_merges(const JsonView& json);
  void index_characters();
  const Merge* find_merge(int32_t left, int32_t right) const;
  void start_word(std::string_view word, std::vector<Symbol>& out) const;
  void merge_word(std::vector<Symbol>& symbols) const;

  Vocab vocab_;
  std::vector<std::string> tokens_;  // by id
  std::unordered_map<uint64_t, Merge, PairHash> merges_;
  std::unordered_map<char32_t, int32_t> characters_;  // tokens of one character
  std::array<int32_t, 256> bytes_{};                  // ids of <0x00> ... <0xFF>, -1 where absent
  std::optional<int32_t> unk_id_;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  std::unique_ptr<Cache> cache_;
};

}  // namespace kvlingua::text
