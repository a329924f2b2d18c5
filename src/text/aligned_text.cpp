#include "aligned_text.h"

#include <algorithm>

#include "kvlingua/base/utf8.h"

namespace kvlingua::text {

AlignedText::AlignedText(std::string_view original) : text_(original) {
  spans_.resize(text_.size());
  uint32_t character = 0;
  for (size_t at = 0; at < text_.size(); ++character) {
    const size_t length = utf8_length(text_[at]);
    std::fill_n(spans_.begin() + static_cast<ptrdiff_t>(at), length,
                Span{character, character + 1});
    at += length;
  }
  if (!text_.empty()) pieces_.push_back({0, text_.size(), -1});
}

bool AlignedText::is_ascii() const {
  return std::all_of(text_.begin(), text_.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void AlignedText::split(const std::function<void(std::string_view, std::vector<Piece>&)>& cut) {
  std::vector<Piece> pieces;
  pieces.reserve(pieces_.size() + text_.size() / 4);
  for (const Piece& piece : pieces_) {
    if (piece.token >= 0) {
      pieces.push_back(piece);
      continue;
    }
    const size_t before = pieces.size();
    cut(view(piece), pieces);
    for (size_t i = before; i < pieces.size(); ++i) {
      pieces[i].begin += piece.begin;
      pieces[i].end += piece.begin;
    }
  }
  std::erase_if(pieces, [](const Piece& piece) { return piece.begin >= piece.end; });
  pieces_ = std::move(pieces);
}

void AlignedText::rewrite(const std::function<void(Rewriter&)>& form) {
  std::string text;
  std::vector<Span> spans;
  text.reserve(text_.size() + text_.size() / 4 + 16);
  spans.reserve(text_.size() + text_.size() / 4 + 16);
  Rewriter writer(text, spans);
  std::vector<Piece> pieces;
  pieces.reserve(pieces_.size());
  for (const Piece& piece : pieces_) {
    const size_t begin = text.size();
    writer.old_ = view(piece);
    writer.old_spans_ = spans_.data() + piece.begin;
    if (piece.token >= 0) {
      writer.copy(0, writer.old_.size());
    } else {
      form(writer);
    }
    if (text.size() > begin) pieces.push_back({begin, text.size(), piece.token});
  }
  text_ = std::move(text);
  spans_ = std::move(spans);
  pieces_ = std::move(pieces);
}

void AlignedText::Rewriter::put_span(char32_t c, Span span) {
  append_utf8(text_, c);
  spans_.resize(text_.size(), span);
}

void AlignedText::Rewriter::put(std::string_view text, size_t at) {
  text_ += text;
  spans_.resize(text_.size(), old_spans_[at]);
}

void AlignedText::Rewriter::copy(size_t begin, size_t end) {
  text_ += old_.substr(begin, end - begin);
  spans_.insert(spans_.end(), old_spans_ + begin, old_spans_ + end);
}

void apply_changes(AlignedText::Rewriter& out, const std::vector<Change>& changes) {
  const std::string_view old = out.old();
  size_t at = 0;  // the old byte reached
  const auto skip = [&] {
    if (at < old.size()) at += utf8_length(old[at]);
  };
  for (const auto& [c, change] : changes) {
    if (change > 0) {
      // An inserted character shares the place of the one before it.
      const uint32_t start = out.old_span(0).begin;
      out.put_span(c, at == 0 ? Span{start, start} : out.old_span(at - 1));
      continue;
    }
    out.put(c, std::min(at, old.size() - 1));
    for (int i = 0; i <= -change; ++i) skip();
  }
}

void prepend(AlignedText::Rewriter& out, std::string_view prefix) {
  out.put(prefix, 0);
  out.copy(0, out.old().size());
}

void replace(AlignedText::Rewriter& out, const Pattern& pattern, std::string_view content) {
  std::vector<Range> matches;
  pattern.find_all(out.old(), matches);
  size_t done = 0;
  for (const auto& [begin, end] : matches) {
    out.copy(done, begin);
    if (end > 0) {
      out.put(content, end - 1);
    } else {
      const uint32_t start = out.old_span(0).begin;
      for (size_t at = 0; at < content.size();)
        out.put_span(next_code_point(content, at), {start, start});
    }
    done = end;
  }
  out.copy(done, out.old().size());
}

void cut_at(std::string_view text, const std::vector<Range>& matches, SplitBehavior behavior,
            bool invert, std::vector<Piece>& out) {
  struct Part {
    size_t begin, end;
    bool matched;
  };
  thread_local std::vector<Part> parts;
  parts.clear();
  size_t done = 0;
  for (const auto& [begin, end] : matches) {
    if (done != begin) parts.push_back({done, begin, invert});
    parts.push_back({begin, end, !invert});
    done = end;
  }
  if (done != text.size()) parts.push_back({done, text.size(), invert});

  const size_t first = out.size();
  bool previous = false;
  const auto add = [&](const Part& part, bool merge, bool at_front) {
    if (merge && out.size() > first) {
      if (at_front) {
        out.back().begin = part.begin;
      } else {
        out.back().end = part.end;
      }
    } else {
      out.push_back({part.begin, part.end, -1});
    }
    previous = part.matched;
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Part& part : parts) add(part, false, false);
      break;
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.matched) add(part, false, false);
      }
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) add(part, part.matched == previous, false);
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : parts) add(part, part.matched && !previous, false);
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part)
        add(*part, part->matched && !previous, true);
      std::reverse(out.begin() + static_cast<ptrdiff_t>(first), out.end());
      break;
  }
}

}  // namespace kvlingua::text
