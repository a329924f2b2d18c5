// The reports of cognitive modes over scales, made from the results' JSON alone.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace kvlingua {

std::string modes_markdown(const nlohmann::ordered_json& results);
std::string modes_html(const nlohmann::ordered_json& results);
// (ending of the file's name, its text): the data of every plot.
std::vector<std::pair<std::string, std::string>> modes_csv(const nlohmann::ordered_json& results);
// A few lines for a terminal.
std::string modes_summary(const nlohmann::ordered_json& results);

}  // namespace kvlingua
