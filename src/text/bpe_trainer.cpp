#include "kvlingua/text/bpe_trainer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// Qwen2's pre-tokenisation: contractions, words with one leading non-letter, single digits,
// punctuation, white space.
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// GPT-2's table: printable bytes stand for themselves, the others for code points from 256 on.
const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> table = [] {
    std::array<std::string, 256> all;
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const uint32_t code = printable ? byte : next++;
      std::string& text = all[byte];
      if (code < 0x80) {
        text = static_cast<char>(code);
      } else {
        text = {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
      }
    }
    return all;
  }();
  return table;
}

std::string to_characters(std::string_view bytes) {
  std::string text;
  for (char byte : bytes) text += byte_characters()[static_cast<unsigned char>(byte)];
  return text;
}

struct Word {
  std::vector<int32_t> symbols;
  int64_t count;
};

using Pair = std::pair<int32_t, int32_t>;

void merge_in(Word& word, Pair pair, int32_t merged) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < word.symbols.size(); ++i) {
    const bool here = i + 1 < word.symbols.size() && word.symbols[i] == pair.first &&
                      word.symbols[i + 1] == pair.second;
    out.push_back(here ? merged : word.symbols[i]);
    i += here;
  }
  word.symbols = std::move(out);
}

// Counts of all pairs, kept up to date merge by merge.
class PairCounts {
 public:
  void change(const Word& word, int64_t sign) {
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      counts_[{word.symbols[i], word.symbols[i + 1]}] += sign * word.count;
    }
  }

  // The most frequent pair; among equals the one of the oldest symbols.
  std::pair<Pair, int64_t> best() const {
    std::pair<Pair, int64_t> best{{}, 0};
    for (const auto& [pair, count] : counts_) {
      if (count > best.second) best = {pair, count};  // std::map runs from the oldest symbols on
    }
    return best;
  }

 private:
  std::map<Pair, int64_t> counts_;
};

}  // namespace

struct BpeTrainer::Pattern {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  Pattern() {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kQwen2Pattern), PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (code == nullptr)
      throw Error({.where = "pre-tokenisation pattern", .what = cat("PCRE2 error ", error)});
    match = pcre2_match_data_create_from_pattern(code, nullptr);
  }
  ~Pattern() {
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }
};

BpeTrainer::BpeTrainer() : pattern_(new Pattern) {}
BpeTrainer::~BpeTrainer() { delete pattern_; }

void BpeTrainer::add(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const int found = pcre2_match(pattern_->code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), at, 0, pattern_->match, nullptr);
    if (found < 1) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat("training text, byte ", at),
                   .what = "cannot be cut into words",
                   .got = printable(text.substr(at, 40)),
                   .expected = "UTF-8 text"});
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(pattern_->match);
    const std::string_view word = text.substr(range[0], range[1] - range[0]);
    const auto known = counts_.find(word);
    if (known != counts_.end()) {
      ++known->second;
    } else {
      counts_.emplace(word, 1);
    }
    at = range[1];
  }
}

BpeVocabulary BpeTrainer::train(int64_t vocab_size, int64_t min_count) const {
  if (vocab_size < 256) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "tokenizer vocabulary",
                 .what = "too small",
                 .got = cat(vocab_size),
                 .expected = "at least 256, one entry for each byte"});
  }
  BpeVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
  std::vector<Word> words;
  PairCounts pairs;
  for (const auto& [text, count] : counts_) {
    Word word{.symbols = {}, .count = count};
    for (char byte : text) word.symbols.push_back(static_cast<unsigned char>(byte));
    pairs.change(word, 1);
    words.push_back(std::move(word));
  }
  while (static_cast<int64_t>(vocabulary.tokens.size()) < vocab_size) {
    const auto [pair, count] = pairs.best();
    if (count < min_count) break;
    const auto merged = static_cast<int32_t>(vocabulary.tokens.size());
    const std::string left = vocabulary.tokens[static_cast<size_t>(pair.first)];
    const std::string right = vocabulary.tokens[static_cast<size_t>(pair.second)];
    vocabulary.merges.emplace_back(left, right);
    vocabulary.tokens.push_back(left + right);
    for (Word& word : words) {
      const auto hit = std::adjacent_find(
          word.symbols.begin(), word.symbols.end(),
          [&, p = pair](int32_t a, int32_t b) { return a == p.first && b == p.second; });
      if (hit == word.symbols.end()) continue;
      pairs.change(word, -1);
      merge_in(word, pair, merged);
      pairs.change(word, 1);
    }
  }
  return vocabulary;
}

std::string to_tokenizer_json(const BpeVocabulary& vocabulary,
                              const std::vector<AddedToken>& added) {
  using nlohmann::ordered_json;
  ordered_json vocab = ordered_json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
    vocab[to_characters(vocabulary.tokens[id])] = id;
  ordered_json merges = ordered_json::array();
  for (const auto& [left, right] : vocabulary.merges) {
    merges.push_back(to_characters(left) + " " + to_characters(right));
  }
  ordered_json added_tokens = ordered_json::array();
  for (size_t i = 0; i < added.size(); ++i) {
    added_tokens.push_back({{"id", vocabulary.tokens.size() + i},
                            {"content", added[i].text},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", false},
                            {"special", added[i].special}});
  }
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", false},
                                   {"use_regex", false}};
  const ordered_json split = {{"type", "Split"},
                              {"pattern", {{"Regex", kQwen2Pattern}}},
                              {"behavior", "Isolated"},
                              {"invert", false}};
  const ordered_json file = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added_tokens},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", ordered_json::array({split, byte_level})}}},
      {"post_processor", byte_level},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", ""},
        {"end_of_word_suffix", ""},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", merges}}}};
  return file.dump(1, ' ') + "\n";
}

}  // namespace kvlingua
