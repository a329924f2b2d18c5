// UTF-8 as Rust's `str` has it: no surrogates, no overlong forms, nothing above U+10FFFF.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvlingua {

// What stands at one position: `length` bytes that are a character (valid), or the longest
// beginning of one that cannot be completed (what a decoder replaces by one U+FFFD).
struct Utf8Step {
  size_t length = 0;
  bool valid = false;
  bool truncated = false;  // not valid only because the text ends here
};
Utf8Step utf8_step(std::string_view text, size_t at);

// Position of the first byte that is not valid UTF-8.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// The code point at `at` of valid UTF-8; moves `at` behind it.
char32_t next_code_point(std::string_view text, size_t& at);

// Bytes of the character whose first byte this is (valid UTF-8).
inline size_t utf8_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Without a byte order mark at its beginning, as Windows' editors write.
inline std::string_view without_bom(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  return text;
}

// Without ASCII white space at its ends.
std::string trimmed(std::string_view text);

void append_utf8(std::string& out, char32_t code_point);

// Valid UTF-8 with every invalid part replaced by U+FFFD, as String::from_utf8_lossy.
std::string to_valid_utf8(std::string_view bytes);

// Of valid UTF-8: whether a character begins with this byte, and how many there are.
inline bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}
inline int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), begins_character);
}

}  // namespace kvlingua
