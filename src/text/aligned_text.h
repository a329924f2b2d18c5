// A text on its way to tokens: its current form, and for every byte of it the characters of the
// original it stems from.
//
// The text is cut into pieces; a piece is a range of the current form. Steps either cut pieces
// further or rewrite them into a new current form. A piece that already is a token (an added token)
// is left alone by both.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pattern.h"
#include "unicode.h"

namespace kvlingua::text {

// [begin, end) in code points of the original text.
struct Span {
  uint32_t begin = 0;
  uint32_t end = 0;
};

struct Piece {
  size_t begin = 0, end = 0;  // bytes of the current form
  int64_t token = -1;         // an added token, or -1
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class AlignedText {
 public:
  explicit AlignedText(std::string_view original);  // valid UTF-8, below 2^31 bytes

  const std::vector<Piece>& pieces() const { return pieces_; }
  std::string_view view(const Piece& piece) const {
    return std::string_view(text_).substr(piece.begin, piece.end - piece.begin);
  }
  // Where a part of the current form lies in it.
  size_t offset_of(std::string_view part) const {
    return static_cast<size_t>(part.data() - text_.data());
  }
  bool is_ascii() const;
  // Characters of the original that bytes [begin, end) of the current form stand for; begin < end.
  Span span(size_t begin, size_t end) const { return {spans_[begin].begin, spans_[end - 1].end}; }

  // Replaces every piece that is no token by what `cut` appends: pieces relative to the start of
  // its argument. Empty pieces are dropped.
  void split(const std::function<void(std::string_view, std::vector<Piece>&)>& cut);

  // Gives every piece that is no token a new form. A Rewriter writes it character by character.
  class Rewriter;
  void rewrite(const std::function<void(Rewriter&)>& form);

 private:
  std::string text_;
  std::vector<Span> spans_;  // one per byte of text_
  std::vector<Piece> pieces_;
};

class AlignedText::Rewriter {
 public:
  std::string_view old() const { return old_; }
  // Whether the piece begins where the original text begins.
  bool at_start() const { return old_spans_[0].begin == 0; }
  // Appends a character or text that stands for the characters that old byte `at` stands for.
  void put(char32_t c, size_t at) { put_span(c, old_spans_[at]); }
  void put(std::string_view text, size_t at);
  void put_span(char32_t c, Span span);
  void copy(size_t begin, size_t end);  // old bytes as they are
  Span old_span(size_t at) const { return old_spans_[at]; }

 private:
  friend class AlignedText;
  Rewriter(std::string& text, std::vector<Span>& spans) : text_(text), spans_(spans) {}
  std::string& text_;
  std::vector<Span>& spans_;
  std::string_view old_;
  const Span* old_spans_ = nullptr;
};

// The rewriting steps, as NormalizedString of the `tokenizers` library aligns them.
void apply_changes(AlignedText::Rewriter& out, const std::vector<Change>& changes);
void prepend(AlignedText::Rewriter& out, std::string_view prefix);
void replace(AlignedText::Rewriter& out, const Pattern& pattern, std::string_view content);

// Cuts `text` at its matches (ordered, not overlapping). invert: what is between the matches counts
// as matched.
void cut_at(std::string_view text, const std::vector<Range>& matches, SplitBehavior behavior,
            bool invert, std::vector<Piece>& out);

}  // namespace kvlingua::text
