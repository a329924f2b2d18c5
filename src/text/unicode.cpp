#include "unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <optional>

#include "kvlingua/base/utf8.h"

namespace kvlingua::text {
namespace {

// A character of the canonical decomposition with its combining class.
struct Decomposed {
  int combining_class;
  char32_t c;
  int change;
};

int combining_class(char32_t c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

std::optional<char32_t> compose(char32_t first, char32_t second) {
  if (second < 0x80) return std::nullopt;  // no pair with an ASCII second half exists
  std::array<utf8proc_int32_t, 3> pair = {static_cast<utf8proc_int32_t>(first),
                                          static_cast<utf8proc_int32_t>(second), 0};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair.data(), 2, options) != 1) return std::nullopt;
  return static_cast<char32_t>(pair[0]);
}

std::vector<Decomposed> decompose(std::string_view text) {
  std::vector<Decomposed> out;
  out.reserve(text.size());
  size_t sorted = 0;  // everything before is in canonical order
  const auto sort_pending = [&] {
    std::stable_sort(out.begin() + static_cast<ptrdiff_t>(sorted), out.end(),
                     [](const Decomposed& a, const Decomposed& b) {
                       return a.combining_class < b.combining_class;
                     });
    sorted = out.size();
  };
  std::array<utf8proc_int32_t, 32> parts{};
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    utf8proc_ssize_t count = 1;
    parts[0] = static_cast<utf8proc_int32_t>(c);
    if (c >= 0x80) {
      int last_boundary = 0;
      const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE);
      count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(),
                                      options, &last_boundary);
      if (count < 1 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
        count = 1;
        parts[0] = static_cast<utf8proc_int32_t>(c);
      }
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      const auto part = static_cast<char32_t>(parts[static_cast<size_t>(i)]);
      const int ccc = combining_class(part);
      if (ccc == 0) sort_pending();
      out.push_back({ccc, part, i == 0 ? 0 : 1});
    }
  }
  sort_pending();
  return out;
}

}  // namespace

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  if (c == 0x200C || c == 0x200D) return true;
  // Other_Alphabetic symbols: circled and squared letters.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) {
    return true;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

std::vector<Change> nfc_changes(std::string_view text) {
  std::vector<Change> out;
  out.reserve(text.size());
  std::optional<Change> starter;  // waits for marks to compose with
  std::vector<Change> marks;      // behind the starter, not composed
  std::optional<int> last_class;
  const auto flush = [&] {
    if (starter) out.push_back(*starter);
    out.insert(out.end(), marks.begin(), marks.end());
    starter.reset();
    marks.clear();
    last_class.reset();
  };
  for (const Decomposed& d : decompose(text)) {
    if (!starter) {
      if (d.combining_class != 0) {
        out.emplace_back(d.c, d.change);
      } else {
        starter = Change(d.c, d.change);
      }
      continue;
    }
    const bool blocked = last_class && *last_class >= d.combining_class;
    if (!blocked) {
      if (const auto composed = compose(starter->first, d.c)) {
        starter = Change(*composed, starter->second + d.change - 1);
        continue;
      }
    }
    if (d.combining_class == 0) {
      flush();
      starter = Change(d.c, d.change);
      continue;
    }
    marks.emplace_back(d.c, d.change);
    last_class = d.combining_class;
  }
  flush();
  return out;
}

}  // namespace kvlingua::text
