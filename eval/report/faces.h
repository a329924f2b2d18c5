// The written faces of a report beside its JSON: Markdown and one HTML page.
#pragma once

#include <filesystem>
#include <string>

#include "eval/report/report.h"

namespace kvlingua {

std::string report_markdown(const Report& report);
// One file: styles and plots inside, no script, light and dark by the reader's preference, readable
// on a phone.
std::string report_html(const Report& report);

// Writes report.json, report.md and report.html into `folder`, each whole or not at all.
void write_report(const Report& report, const std::filesystem::path& folder);

}  // namespace kvlingua
