// Results files for --compare: the users' own scripts write them with Python's json, which has
// words for NaN and infinity that JSON has not.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace kvlingua {

// NaN, Infinity and -Infinity outside strings as null, all else as it is.
std::string without_python_numbers(std::string_view text);

// Throws Error as parse_json() and read_text_file() do.
nlohmann::json read_older_results(const std::string& file);

}  // namespace kvlingua
