#include "kvlingua/base/error.h"

#include <cstdio>

#include "kvlingua/base/utf8.h"

namespace kvlingua {
namespace {

// What a terminal, a log or a page must not get from a file (Unicode's Cc and Bidi_Control, and the
// two separators that end a line).
bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

void append_hex(std::string& out, const char* form, unsigned value) {
  char text[16];
  std::snprintf(text, sizeof text, form, value);
  out += text;
}

bool all_plain_ascii(std::string_view text) {
  for (const char c : text) {
    if (c < 0x20 || c == 0x7F) return false;  // also what is not ASCII
  }
  return true;
}

// `one_line`: line feeds and tabs are escaped too.
std::string escaped(std::string_view text, bool one_line) {
  if (all_plain_ascii(text)) return std::string(text);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    size_t next = at;
    const char32_t c = step.valid ? next_code_point(text, next) : U'\0';
    if (!step.valid) {
      for (size_t i = 0; i < step.length; ++i)
        append_hex(out, "\\x%02x", static_cast<unsigned char>(text[at + i]));
    } else if (is_control(c) && (one_line || (c != U'\n' && c != U'\t'))) {
      append_hex(out, c < 0x80 ? "\\x%02x" : "\\u%04x", static_cast<unsigned>(c));
    } else {
      out.append(text, at, step.length);
    }
    at += step.length;
  }
  return out;
}

}  // namespace

std::string Error::format(const ErrorParts& parts) {
  std::string line = parts.where;
  if (!parts.what.empty()) line += (line.empty() ? "" : ": ") + parts.what;
  if (!parts.got.empty()) line += ": got " + parts.got;
  if (!parts.expected.empty())
    line += (parts.got.empty() ? ": expected " : ", expected ") + parts.expected;
  if (!parts.remedy.empty()) line += "; " + parts.remedy;
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return escaped(line, true);
}

std::string printable(std::string_view text, size_t limit) {
  // An escaped character is at most six times as long, so enough is looked at.
  std::string out = escaped(text.substr(0, limit + 4), true);
  if (out.size() <= limit && text.size() <= limit) return out;
  if (out.size() > limit) out.resize(limit);
  // Do not leave half a UTF-8 character behind.
  while (!out.empty() && !begins_character(out.back())) out.pop_back();
  if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xC0) out.pop_back();
  return out + "...";
}

std::string printable_lines(std::string_view text) { return escaped(text, false); }

std::string escaped_in_strings(std::string_view document) {
  std::string out;
  for (size_t at = 0; at < document.size();) {
    const Utf8Step step = utf8_step(document, at);
    size_t next = at;
    const char32_t c = step.valid ? next_code_point(document, next) : U'?';
    if (c >= 0x7F && is_control(c)) {
      append_hex(out, "\\u%04x", static_cast<unsigned>(c));
    } else {
      out.append(document, at, step.length);
    }
    at += step.length;
  }
  return out;
}

}  // namespace kvlingua
