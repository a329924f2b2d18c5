// Report: the three faces of one evaluation. report.json is the contract; report.md and report.html
// are made from it alone.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace kvlingua {

std::string report_markdown(const nlohmann::ordered_json& report);
// One file: styles and plots inside, no script, light and dark by the reader's preference, readable
// on a phone.
std::string report_html(const nlohmann::ordered_json& report);

// Writes report.json, report.md and report.html into `folder`, each whole or not at all.
void write_report(const nlohmann::ordered_json& report, const std::filesystem::path& folder);

}  // namespace kvlingua
