// Reading JSON that nobody vouches for: config.json, manifests, shard indices.
//
// nlohmann::json keeps the last of two equal keys and has no depth limit; here a duplicate key, an
// over-deep document and bytes after the end are errors that name the file and the line.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace kvlingua {

// The one reader of JSON: every document that this program did not just write itself goes through
// it. Parses a whole document. `where` names it in messages.
// Throws Error (kCorrupt) with where:line:column, what stands there, what could, and a remedy.
nlohmann::json parse_json(std::string_view text, const std::string& where, size_t max_depth = 64);
// One line of a file of JSON lines, counted from 1.
nlohmann::json parse_json_line(std::string_view text, const std::string& where, size_t line);
// The same with members in the document's order instead of sorted.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                          size_t max_depth = 64);

// A whole text file. Throws Error: kInput when it is not there, unreadable or no regular file,
// kCorrupt when longer than max_bytes.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes = size_t{64} << 20);

}  // namespace kvlingua
