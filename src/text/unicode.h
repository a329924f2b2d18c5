// Unicode facts (utf8proc): classes of characters, and NFC that reports how each character came
// about.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

namespace kvlingua::text {

bool is_numeric(char32_t c);      // categories Nd, Nl, No
bool is_white_space(char32_t c);  // property White_Space
bool is_word(
    char32_t c);  // what \w matches (UTS 18): letters, marks, decimal digits, connectors, joiners

// One character of a changed text. change: 0 replaces one old character, 1 is inserted, -n replaces
// one old character and swallows the n that follow it.
using Change = std::pair<char32_t, int>;

// Canonical composition of `text` (valid UTF-8). The changes are counted as the `tokenizers`
// library counts them, since offsets depend on it: a composed character stands for the first of its
// old ones and swallows the others.
std::vector<Change> nfc_changes(std::string_view text);

}  // namespace kvlingua::text
