#include <set>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "value.h"

namespace kvlingua::text::jinja {

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string strip(std::string_view text, const std::optional<std::string>& chars, bool left,
                  bool right) {
  std::vector<std::pair<size_t, size_t>> places;
  std::set<char32_t> wanted;
  for (size_t at = 0; chars && at < chars->size();) wanted.insert(next_code_point(*chars, at));
  const auto goes = [&](size_t at) {
    const char32_t c = next_code_point(text, at);
    return chars ? wanted.contains(c) : is_python_space(c);
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end && goes(begin)) begin += utf8_length(text[begin]);
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && !begins_character(text[last])) --last;
    if (!goes(last)) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

std::string case_of(std::string text, bool upper) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) refuse("upper and lower case beyond ASCII");
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return text;
}

std::string capitalised(const std::string& text, bool each_word) {
  std::string out = case_of(text, false);
  bool begin = true;
  for (char& c : out) {
    const bool letter = c >= 'a' && c <= 'z';
    if (letter && begin) c = static_cast<char>(c - 32);
    begin = each_word ? !letter : false;
  }
  return out;
}

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = utf8_length(text[at]);
    out.push_back(text.substr(at, n));
    at += n;
  }
  return out;
}

Json split(const std::string& text, const std::optional<std::string>& by, int64_t most) {
  Json out = Json::array();
  if (!by) {
    std::string word;
    for (const std::string& c : characters(text)) {
      size_t at = 0;
      if (!is_python_space(next_code_point(c, at))) {
        word += c;
      } else if (!word.empty()) {
        out.push_back(std::exchange(word, {}));
      }
    }
    if (most >= 0) refuse("split with a limit and no separator");
    if (!word.empty()) out.push_back(word);
    return out;
  }
  if (by->empty()) refuse("split by nothing");
  size_t at = 0;
  for (size_t found; (most < 0 || most-- > 0) && (found = text.find(*by, at)) != std::string::npos;
       at = found + by->size())
    out.push_back(text.substr(at, found - at));
  out.push_back(text.substr(at));
  return out;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) refuse("replace of nothing");
  std::string out;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string::npos; at = found + from.size())
    out += text.substr(at, found - at) + to;
  return out + text.substr(at);
}

}  // namespace kvlingua::text::jinja
