#include "pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua::text {
namespace {

constexpr size_t kMaxPatternBytes = 16384;

// White_Space, which is what Oniguruma's \s is; PCRE2's \s has U+180E too. Without brackets, for
// use inside a class.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{"
    "205f}\\x{3000}";
constexpr std::string_view kNotSpaces =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";

// Rewrites a pattern piece by piece; refuses what it does not know.
class Translator {
 public:
  Translator(std::string_view source, const std::string& where) : source_(source), where_(where) {}

  std::string run() {
    if (source_.empty()) refuse("an empty pattern");
    if (source_.size() > kMaxPatternBytes) refuse(cat("a pattern of ", source_.size(), " bytes"));
    while (at_ < source_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error({.code = ExitCode::kInput,
                 .where = where_,
                 .what = cat("regular expression not supported: ", what, " at byte ", at_, " of ",
                             printable(source_, 80))});
  }

  char peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }

  void step() {
    switch (peek()) {
      case '\\':
        escape(false);
        break;
      case '[':
        char_class();
        break;
      case '(':
        group();
        break;
      case '{':
        interval();
        break;
      default:
        out_ += source_[at_++];
    }
  }

  // (?:  (?=  (?!  (?<=  (?<!  (?>  (?i:  (?i)  (
  void group() {
    if (peek(1) == '*') refuse("a verb (*...)");
    if (peek(1) == '?') {
      static constexpr std::array<std::string_view, 8> kKnown = {
          "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"};
      for (std::string_view known : kKnown) {
        if (source_.substr(at_, known.size()) == known) {
          out_ += known;
          at_ += known.size();
          return;
        }
      }
      refuse(cat("group ", printable(source_.substr(at_, 4))));
    }
    out_ += source_[at_++];
  }

  // {n} {n,} {n,m}, lazy by '?' where Ruby means that. A brace that is no interval is a character
  // in both.
  void interval() {
    size_t end = at_ + 1;
    while (end < source_.size() &&
           (std::isdigit(static_cast<unsigned char>(source_[end])) || source_[end] == ','))
      ++end;
    const std::string_view body = source_.substr(at_ + 1, end - at_ - 1);
    if (end >= source_.size() || source_[end] != '}' || body.empty()) {
      out_ += "\\{";
      ++at_;
      return;
    }
    const size_t comma = body.find(',');
    if (comma == 0 || std::count(body.begin(), body.end(), ',') > 1) refuse("interval");
    const char next = end + 1 < source_.size() ? source_[end + 1] : '\0';
    if (next == '+' || (next == '?' && comma == std::string_view::npos))
      refuse("suffix of an interval");
    out_ += source_.substr(at_, end + 1 - at_);
    at_ = end + 1;
  }

  void char_class() {
    out_ += source_[at_++];
    if (peek() == '^') out_ += source_[at_++];
    if (peek() == ']') refuse("']' at the start of a class");
    while (peek() != ']') {
      if (at_ >= source_.size()) refuse("a class without its ']'");
      if (peek() == '\\') {
        escape(true);
      } else if (peek() == '[') {
        refuse("'[' inside a class");
      } else if (peek() == '&' && peek(1) == '&') {
        refuse("'&&' inside a class");
      } else {
        out_ += source_[at_++];
      }
    }
    out_ += source_[at_++];
  }

  void escape(bool in_class) {
    const char c = peek(1);
    switch (c) {
      case 's':
        put(in_class ? std::string(kSpaces) : cat("[", kSpaces, "]"), 2);
        return;
      case 'S':
        put(in_class ? std::string(kNotSpaces) : cat("[^", kSpaces, "]"), 2);
        return;
      case 'd':
        put("\\p{Nd}", 2);
        return;
      case 'D':
        put("\\P{Nd}", 2);
        return;
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'e':
      case 'a':
        put(std::string(source_.substr(at_, 2)), 2);
        return;
      case 'v':
        put("\\x{b}", 2);
        return;
      case 'p':
      case 'P':
        property();
        return;
      case 'x':
        hexadecimal();
        return;
      case 'u':
        if (hex_digits(2) < 4) refuse("\\u without four digits");
        put(cat("\\x{", source_.substr(at_ + 2, 4), "}"), 6);
        return;
      case 'A':
      case 'z':
      case 'Z':
        if (in_class) refuse(cat("\\", c, " inside a class"));
        put(std::string(source_.substr(at_, 2)), 2);
        return;
      default:
        break;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\0' || std::isalnum(byte)) refuse(c == '\0' ? "a trailing backslash" : cat("\\", c));
    if (byte < 0x80) {
      put(std::string(source_.substr(at_, 2)), 2);
    } else {
      put("", 1);  // a needless backslash before a character beyond ASCII
    }
  }

  // \p{Name} \P{Name} \p{^Name} \pL
  void property() {
    if (peek(2) != '{') {
      if (!std::isupper(static_cast<unsigned char>(peek(2)))) refuse("\\p");
      put(cat("\\", peek(1), "{", peek(2), "}"), 3);
      return;
    }
    const size_t end = source_.find('}', at_);
    if (end == std::string_view::npos || end - at_ > 48) refuse("\\p{");
    const std::string_view name = source_.substr(at_ + 3, end - at_ - 3);
    for (size_t i = 0; i < name.size(); ++i) {
      const auto byte = static_cast<unsigned char>(name[i]);
      if (!std::isalnum(byte) && byte != '_' && byte != ' ' && !(i == 0 && byte == '^'))
        refuse("\\p{");
    }
    put(std::string(source_.substr(at_, end + 1 - at_)), end + 1 - at_);
  }

  size_t hex_digits(size_t ahead) const {
    size_t count = 0;
    while (std::isxdigit(static_cast<unsigned char>(peek(ahead + count)))) ++count;
    return count;
  }

  // \xH \xHH name a byte in Oniguruma, so only ASCII is the same character; \x{H...} names a code
  // point.
  void hexadecimal() {
    if (peek(2) == '{') {
      const size_t count = hex_digits(3);
      if (count == 0 || count > 6 || peek(3 + count) != '}') refuse("\\x{");
      put(std::string(source_.substr(at_, 4 + count)), 4 + count);
      return;
    }
    const size_t count = std::min<size_t>(hex_digits(2), 2);
    if (count == 0) refuse("\\x");
    const std::string digits(source_.substr(at_ + 2, count));
    if (std::stoul(digits, nullptr, 16) >= 0x80) refuse(cat("\\x", digits, ", a byte"));
    put(cat("\\x{", digits, "}"), 2 + count);
  }

  void put(const std::string& translated, size_t consumed) {
    out_ += translated;
    at_ += consumed;
  }

  std::string_view source_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
};

// What one thread needs to match; made once, reused for every pattern.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, nullptr);
  Scratch() {
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_heap_limit(context, 64 * 1024);  // KiB
  }
  ~Scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace

std::string translate_regex(std::string_view source, const std::string& where) {
  return Translator(source, where).run();
}

struct Pattern::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

Pattern Pattern::regex(std::string_view source, const std::string& where) {
  const std::string translated = translate_regex(source, where);
  auto code = std::make_shared<Code>();
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's ^ and $ stand at every line.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code->code == nullptr) {
    std::array<PCRE2_UCHAR, 160> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = cat("regular expression not supported: ",
                             reinterpret_cast<const char*>(message.data())),
                 .got = printable(source)});
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter serves
  Pattern pattern;
  pattern.code_ = std::move(code);
  pattern.where_ = where;
  return pattern;
}

Pattern Pattern::literal(std::string_view text, const std::string& where) {
  if (text.empty()) {
    throw Error(
        {.code = ExitCode::kInput, .where = where, .what = "an empty pattern is not supported"});
  }
  Pattern pattern;
  pattern.literal_ = text;
  pattern.where_ = where;
  return pattern;
}

void Pattern::find_all(std::string_view subject, std::vector<Range>& out) const {
  if (code_ == nullptr) {
    for (size_t at = subject.find(literal_); at != std::string_view::npos;
         at = subject.find(literal_, at + literal_.size())) {
      out.emplace_back(at, at + literal_.size());
    }
    return;
  }
  thread_local Scratch scratch;
  // Enough for backtracking over the whole subject, too little for an exponential pattern.
  pcre2_set_match_limit(scratch.context, static_cast<uint32_t>(std::min<size_t>(
                                             200'000 + 32 * subject.size(), 1U << 30)));
  size_t at = 0;
  size_t last_end = std::string_view::npos;
  while (at <= subject.size()) {
    const int count =
        pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), at,
                    PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
    if (count == PCRE2_ERROR_NOMATCH) return;
    if (count < 0) {
      throw Error(
          {.code = ExitCode::kInput,
           .where = where_,
           .what = cat("the regular expression takes too many steps on this text, at byte ", at),
           .got = cat("PCRE2 error ", count)});
    }
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(scratch.data);
    const size_t begin = span[0], end = span[1];
    if (begin == end && last_end == end) {
      at += at < subject.size() ? utf8_length(subject[at]) : 1;
      continue;
    }
    out.emplace_back(begin, end);
    at = last_end = end;
  }
}

}  // namespace kvlingua::text
