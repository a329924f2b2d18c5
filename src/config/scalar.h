// Scalars of recipes: exact text of numbers both ways. Private to src/config.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvlingua/config/options.h"

namespace kvlingua::config_detail {

// 12, -3, 1e6 (when whole); with `bytes` also 64KiB, 1GiB, 2GB. Empty when it is none of these.
std::optional<int64_t> parse_integer(std::string_view text, bool bytes);
std::optional<double> parse_number(std::string_view text);  // finite
std::optional<bool> parse_bool(std::string_view text);      // true, false

std::string number_text(double value);            // shortest that reads back the same
std::string quoted_word(std::string_view value);  // as YAML: plain when safe, else in double quotes
std::string range_text(const FieldInfo& info);    // "0 .. 1024", "above 0", "a | b", or empty

}  // namespace kvlingua::config_detail
