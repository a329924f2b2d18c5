// Characters of valid UTF-8, counted by their first bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace kvlingua {

inline bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

inline int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), begins_character);
}

}  // namespace kvlingua
