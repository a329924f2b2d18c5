// Stored results that are of another run: what took hours is kept beside the file, and used again
// when it fits.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace kvlingua {

// Killed, or out of disk, before its first line: nothing that anybody would miss.
bool empty_or_gone(const std::filesystem::path& file);

// The first whole line, which says what the others are of; null where nobody can tell.
nlohmann::json first_line(const std::filesystem::path& file);

// generations.jsonl -> generations.other-1.jsonl, or the first number that is free.
std::filesystem::path move_aside(const std::filesystem::path& file);
// All that were, by name.
std::vector<std::filesystem::path> moved_aside(const std::filesystem::path& file);

}  // namespace kvlingua
