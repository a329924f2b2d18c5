// SampleBuilder: from a document to what both models read, and which of their cache entries are
// kept.
//
// A model reads prefix ⊕ span. The prefix is fixed for a pair set: the model's own chat prefix
// (chat_template.h) where data.chat is on, and BOS where its tokenizer adds one. The span is the
// document's text, tokenised apart, the same text for both models. Only the span's entries are
// stored. Torch-free.
//
// Conversations (a chat corpus with data.chat on) are rendered turn by turn, each model's by its
// own template, so the two models read different texts; entries are kept from the first turn's
// content on, and are aligned piece by piece (chat_turns.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "datasets/corpus/corpus.h"
#include "kvlingua/bridge/text_reader.h"
#include "kvlingua/config/data_options.h"
#include "kvlingua/text/alignment.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

// More bytes than `tokens` tokens of any text that people write: what lies behind them is cut off
// before it is tokenised.
int64_t bytes_worth_reading(int64_t tokens);

// Whether samples are conversations rendered by each model's own template: a corpus of chats, where
// the recipe asks for chat.
bool renders_turns(const DataOptions& data);

struct SpanSide {
  std::vector<int64_t> ids;        // of the span
  std::vector<int32_t> row_token;  // tokens whose entries are kept, ascending
};

struct BuiltSample {
  std::string text;  // maybe cut
  bool validation = false;
  SpanSide source, target;
  std::vector<int32_t> alignment;          // [target tokens]
  std::vector<int32_t> target_source_row;  // [target rows]
  double alignment_covered = 1.0;
  int64_t control_tokens = 0;  // the target's, written in the document itself
};

class SampleBuilder {
 public:
  // `seed`: of validation and of subsampling, together with the document.
  SampleBuilder(TextReader source, TextReader target, const DataOptions& data,
                AlignmentKind alignment, uint64_t seed);

  const TextReader& source() const { return source_; }
  const TextReader& target() const { return target_; }
  // None when the document is left out: empty, shorter than data.min_length, or of the other split.
  // Longer ones than data.max_length target tokens are cut at a character. Throws Error (kInput)
  // when it is longer than a model allows, or when identity alignment is asked for and the models'
  // tokens differ. Thread-safe.
  std::optional<BuiltSample> build(const Document& document, int64_t number,
                                   bool split_by_construction) const;

 private:
  // One sample before its rows are chosen: what each model reads.
  struct Read {
    Encoding source, target;    // with offsets in the same text
    int64_t first_content = 0;  // rows are kept from this code point on
  };
  // A text of the user's: control tokens in it are text where data.split_control_tokens says so.
  Encoding encode_user(const Tokenizer& tokenizer, std::string_view text) const;
  std::optional<Read> read_text(const Document& document, BuiltSample& sample) const;
  std::optional<Read> read_turns(const Document& document, int64_t number,
                                 BuiltSample& sample) const;
  void choose_rows(const Read& read, uint64_t seed, BuiltSample& sample) const;
  void cut(std::string& text, Encoding& target) const;
  void check_length(const TextReader& reader, size_t tokens, int64_t number) const;
  Alignment aligned(const Encoding& source, const Encoding& target, int64_t number) const;

  TextReader source_, target_;
  DataOptions data_;
  AlignmentKind alignment_;
  uint64_t seed_;
};

}  // namespace kvlingua
