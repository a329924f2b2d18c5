#include "kvlingua/base/error.h"

#include <cstdio>

#include "kvlingua/base/utf8.h"

namespace kvlingua {

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
  return line;
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (unsigned char c : text) {
    if (out.size() >= limit) {
      // Do not leave half a UTF-8 character behind.
      while (!out.empty() && !begins_character(out.back())) out.pop_back();
      if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xC0) out.pop_back();
      return out + "...";
    }
    if (c < 0x20 || c == 0x7F) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", c);
      out += escaped;
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

}  // namespace kvlingua
