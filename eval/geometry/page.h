// What the sweep's and the identity report's pages are made of: one self-contained HTML file, light
// and dark by the reader's preference, readable on a phone; the same numbers as CSV.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua::report {

using Row = std::vector<std::string>;

// A whole page around `body`.
std::string page(const std::string& title, const std::string& body);
std::string heading(const std::string& text, const std::string& note = {});
// Cells are escaped.
std::string html_table(const Row& head, const std::vector<Row>& rows);
std::string markdown_table(const Row& head, const std::vector<Row>& rows);
std::string csv(const Row& head, const std::vector<Row>& rows);

// A forest plot: intervals on one axis, zero marked; `second` (may be empty)
// is drawn thinner below.
struct ForestRow {
  std::string name;
  double low, value, high;
  double low2, value2, high2;  // NaN: none
  std::string note;
};
std::string forest(const std::vector<ForestRow>& rows, const std::string& first_label,
                   const std::string& second_label);

// Named rows of cells, each filled by its place between the row's (or the table's) extremes.
struct HeatRow {
  std::string name;
  std::vector<double> values;  // NaN: empty
};
std::string heat(const std::vector<HeatRow>& rows, const Row& columns, bool by_row);
// One line a series over x, points marked.
struct Series {
  std::string name;
  std::vector<double> x, y;
};
std::string lines(const std::vector<Series>& series, const std::string& x_label, bool log_x);

std::string number_text(const nlohmann::ordered_json& value, int digits = 2);
// "0.52 [0.11, 0.93]"
std::string interval_text(double value, double low, double high, int digits = 2);
std::string interval_text(const nlohmann::ordered_json& estimate_low_high, int digits = 2);

// timestamp, platform, torch, device; what no C++ program has (python, numpy, scipy) is null.
nlohmann::ordered_json environment_block(const std::string& device);

// JSON, Markdown, HTML and CSV files of one report, each whole or not at all. Gives the JSON's
// sha256.
struct ReportFiles {
  std::filesystem::path json, markdown, html;
  std::vector<std::pair<std::filesystem::path, std::string>> csv;
};
std::string write_files(const ReportFiles& files, const nlohmann::ordered_json& results,
                        const std::string& markdown, const std::string& html);

}  // namespace kvlingua::report
