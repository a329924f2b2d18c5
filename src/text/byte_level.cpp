// The byte-level alphabet of GPT-2 (steps.h): every byte as a printable character.
#include <array>

#include "kvlingua/base/utf8.h"
#include "steps.h"

namespace kvlingua::text {
namespace {

// Printable bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on, in
// order.
struct Table {
  std::array<char32_t, 256> character{};
  std::array<int, 0x180> byte{};
  Table() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      character[b] = itself ? b : next++;
      byte[character[b]] = static_cast<int>(b);
    }
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

char32_t byte_level_char(unsigned char byte) {
  static const Table& t = table();
  return t.character[byte];
}

std::optional<std::string> byte_level_bytes(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (size_t at = 0; at < token.size();) {
    const char32_t c = next_code_point(token, at);
    const int byte = c < table().byte.size() ? table().byte[c] : -1;
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace kvlingua::text
