#include <set>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "tree.h"

namespace kvlingua::text::jinja {
namespace {

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : in_(source) {}

  std::vector<Token> run() {
    while (at_ < in_.size()) {
      const size_t open = next_tag();
      std::string text(in_.substr(at_, open - at_));
      if (open == in_.size()) {
        put_text(std::move(text));
        break;
      }
      const char kind = in_[open + 1];
      size_t inside = open + 2;
      const char mark = inside < in_.size() ? in_[inside] : ' ';
      if (mark == '-') {
        while (!text.empty() && is_space(text.back())) text.pop_back();
      } else if (kind != '{' && mark != '+') {
        strip_line_begin(text, open);
      }
      if (mark == '-' || mark == '+') ++inside;
      put_text(std::move(text));
      at_ = inside;
      if (kind == '#') {
        comment();
      } else {
        tag(kind);
      }
    }
    out_.push_back({Token::kDone, ""});
    return std::move(out_);
  }

 private:
  static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
  }

  size_t next_tag() const {
    for (size_t i = at_; i + 1 < in_.size(); ++i) {
      if (in_[i] == '{' && (in_[i + 1] == '{' || in_[i + 1] == '%' || in_[i + 1] == '#')) return i;
    }
    return in_.size();
  }

  // lstrip_blocks: white space between the beginning of a line and a block's tag goes.
  void strip_line_begin(std::string& text, size_t open) const {
    size_t begin = text.size();
    while (begin > 0 && is_space(text[begin - 1]) && text[begin - 1] != '\n') --begin;
    const bool at_line = begin > 0 ? text[begin - 1] == '\n'
                                   : open == text.size() || in_[open - text.size() - 1] == '\n';
    if (at_line) text.resize(begin);
  }

  void put_text(std::string text) {
    if (!text.empty()) out_.push_back({Token::kText, std::move(text)});
  }

  // Behind a tag: "-" takes all white space, trim_blocks one line feed behind a block or comment.
  void close(bool dash, bool block) {
    if (dash) {
      while (at_ < in_.size() && is_space(in_[at_])) ++at_;
    } else if (block && at_ < in_.size() && in_[at_] == '\n') {
      ++at_;
    }
  }

  void comment() {
    const size_t end = in_.find("#}", at_);
    if (end == std::string_view::npos) refuse("a comment does not end");
    const bool dash = end > at_ && in_[end - 1] == '-', plus = end > at_ && in_[end - 1] == '+';
    at_ = end + 2;
    close(dash, !plus);
  }

  void tag(char kind) {
    const std::string end = kind == '{' ? "}}" : "%}";
    out_.push_back({Token::kBegin, kind == '{' ? "{{" : "{%"});
    int depth = 0;  // of braces: "}}" may end two dicts
    while (true) {
      while (at_ < in_.size() && is_space(in_[at_])) ++at_;
      if (at_ >= in_.size()) refuse("a tag does not end");
      const char c = in_[at_];
      const bool signed_end = (c == '-' || c == '+') && in_.substr(at_ + 1, 2) == end;
      if (depth == 0 && (signed_end || in_.substr(at_, 2) == end)) {
        at_ += signed_end ? 3 : 2;
        out_.push_back({Token::kEnd, end});
        close(signed_end && c == '-', kind != '{' && !(signed_end && c == '+'));
        return;
      }
      if (c == '"' || c == '\'') {
        string(c);
      } else if (c >= '0' && c <= '9') {
        const size_t begin = at_;
        while (at_ < in_.size() &&
               (is_name_char(in_[at_]) || (in_[at_] == '.' && at_ + 1 < in_.size() &&
                                           in_[at_ + 1] >= '0' && in_[at_ + 1] <= '9')))
          ++at_;
        out_.push_back({Token::kNumber, std::string(in_.substr(begin, at_ - begin))});
      } else if (is_name_char(c)) {
        const size_t begin = at_;
        while (at_ < in_.size() && is_name_char(in_[at_])) ++at_;
        out_.push_back({Token::kName, std::string(in_.substr(begin, at_ - begin))});
      } else {
        depth += c == '{' ? 1 : c == '}' ? -1 : 0;
        op();
      }
    }
  }

  void op() {
    for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (in_.substr(at_, 2) == two) {
        out_.push_back({Token::kOp, std::string(two)});
        at_ += 2;
        return;
      }
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(in_[at_]) == std::string_view::npos)
      refuse("a character that is not understood", printable(in_.substr(at_, 1)));
    out_.push_back({Token::kOp, std::string(1, in_[at_++])});
  }

  void string(char quote) {
    std::string text;
    for (++at_; at_ < in_.size() && in_[at_] != quote; ++at_) {
      if (in_[at_] != '\\') {
        text += in_[at_];
        continue;
      }
      if (++at_ >= in_.size()) break;
      escape(text);
    }
    if (at_ >= in_.size()) refuse("a string does not end");
    ++at_;
    out_.push_back({Token::kString, std::move(text)});
  }

  void escape(std::string& text) {
    const char c = in_[at_];
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      char32_t code = 0;
      for (size_t i = 0; i < digits; ++i) {
        const char h = ++at_ < in_.size() ? in_[at_] : ' ';
        const size_t value = std::string_view("0123456789abcdef")
                                 .find(h >= 'A' && h <= 'F' ? static_cast<char>(h + 32) : h);
        if (value == std::string_view::npos) refuse("a string's escape is malformed");
        code = code * 16 + static_cast<char32_t>(value);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        refuse("a string's escape is no character");
      append_utf8(text, code);
      return;
    }
    constexpr std::string_view kFrom = "ntrabfv0\\'\"\n", kTo = "\n\t\r\a\b\f\v\0\\'\"";
    const size_t known = kFrom.find(c);
    if (known == std::string_view::npos) {
      text += '\\';
      text += c;
    } else if (c == '0') {
      text += '\0';
    } else if (c != '\n') {
      text += known < 7 ? kTo[known] : c;
    }
  }

  std::string_view in_;
  size_t at_ = 0;
  std::vector<Token> out_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source) { return Lexer(source).run(); }

}  // namespace kvlingua::text::jinja
