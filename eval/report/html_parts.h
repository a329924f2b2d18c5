// Pieces of report.html: escaped text, small inline SVGs, tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kvlingua::report {

// &, <, >, " and ' escaped; control characters shown as U+FFFD. Answers of a model are untrusted
// text.
std::string escape(std::string_view text);
// Escaped, with every whole-word occurrence of a marker in <mark>, of what is known by heart in
// <mark class=known>.
std::string highlighted(std::string_view text, const std::vector<std::string>& markers,
                        const std::vector<std::string>& known);

// A bar from 0 to `value` with an interval, all in [0, 1] of the width; `reference` (negative:
// none) draws a dashed line.
std::string bar_svg(double value, double low, double high, const char* colour,
                    double reference = -1);
struct Part {
  double share;
  const char* colour;
  std::string label;
};
std::string stacked_svg(const std::vector<Part>& parts);
// An interval against a threshold on an axis from `from` to `to`.
std::string gate_svg(double low, double value, double high, double threshold, double from,
                     double to, const std::string& unit);
// One row of cells, each filled by its share in [0, 1]; `values` for the tooltips.
std::string heat_svg(const std::vector<double>& shares, const std::vector<double>& values,
                     const std::string& what);
std::string row(const std::vector<std::string>& cells, const char* tag = "td",
                const char* attributes = "");

}  // namespace kvlingua::report
