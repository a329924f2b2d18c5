#include "scalar.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "kvlingua/base/error.h"

namespace kvlingua::config_detail {
namespace {

struct Suffix {
  std::string_view text;
  int64_t factor;
};
constexpr Suffix kSuffixes[] = {{"KiB", int64_t{1} << 10},
                                {"MiB", int64_t{1} << 20},
                                {"GiB", int64_t{1} << 30},
                                {"TiB", int64_t{1} << 40},
                                {"kB", 1000},
                                {"KB", 1000},
                                {"MB", 1000000},
                                {"GB", 1000000000},
                                {"TB", 1000000000000}};

std::optional<int64_t> whole(double value) {
  if (!std::isfinite(value) || value != std::floor(value) || std::abs(value) > 9e18)
    return std::nullopt;
  return static_cast<int64_t>(value);
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, bool bytes) {
  int64_t factor = 1;
  if (bytes) {
    for (const Suffix& suffix : kSuffixes) {
      if (text.size() > suffix.text.size() && text.ends_with(suffix.text)) {
        factor = suffix.factor;
        text.remove_suffix(suffix.text.size());
        while (text.ends_with(' ')) text.remove_suffix(1);
        break;
      }
    }
  }
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) {
    int64_t product = 0;
    return __builtin_mul_overflow(value, factor, &product) ? std::nullopt : std::optional(product);
  }
  const std::optional<double> number = parse_number(text);
  return number ? whole(*number * static_cast<double>(factor)) : std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

std::string number_text(double value) {
  char buffer[40];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return error == std::errc() ? std::string(buffer, end) : std::string("0");
}

std::string quoted_word(std::string_view value) {
  bool plain = !value.empty() && value != "null" && value != "Null" && value != "NULL" &&
               value.front() != '-' && value.front() != '@';
  for (char c : value) {
    const bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '-' || c == '.' || c == '/' || c == '@' || c == '+';
    plain = plain && safe;
  }
  if (plain) return std::string(value);
  std::string out = "\"";
  for (unsigned char c : value) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7F) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", c);
      out += escaped;
    } else {
      out += static_cast<char>(c);
    }
  }
  return escaped_in_strings(out + "\"");
}

std::string range_text(const FieldInfo& info) {
  std::string text;
  if (!info.choices.empty()) {
    for (std::string_view choice : info.choices)
      text += (text.empty() ? "" : " | ") + std::string(choice);
    return text;
  }
  const bool low = std::isfinite(info.min), high = std::isfinite(info.max);
  if (std::isfinite(info.above)) text = "above " + number_text(info.above);
  if (low && high) return number_text(info.min) + " .. " + number_text(info.max);
  if (low) return "at least " + number_text(info.min);
  if (high) return (text.empty() ? "" : text + ", ") + "at most " + number_text(info.max);
  return text;
}

}  // namespace kvlingua::config_detail
