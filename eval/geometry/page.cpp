#include "eval/geometry/page.h"

#include <ATen/ATen.h>
#include <sys/utsname.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>

#include "eval/report/html_parts.h"
#include "eval/report/html_style.h"
#include "kvlingua/base/error.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua::report {

namespace {

constexpr const char* kColours[] = {"var(--accent)", "var(--parametric)", "var(--both)",
                                    "var(--good)",   "var(--bad)",        "var(--open)"};

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string line_svg(double x1, double x2, double y, double width, const char* colour) {
  return cat("<line x1=\"", fixed(x1, 2), "\" x2=\"", fixed(x2, 2), "\" y1=\"", y, "\" y2=\"", y,
             "\" stroke=\"", colour, "\" stroke-width=\"", width,
             "\" vector-effect=\"non-scaling-stroke\"/>");
}

std::string mark_svg(double x, double y, const char* colour) {
  return cat("<line x1=\"", fixed(x, 2), "\" x2=\"", fixed(x, 2), "\" y1=\"", y - 4, "\" y2=\"",
             y + 4, "\" stroke=\"", colour,
             "\" stroke-width=\"4\" vector-effect=\"non-scaling-stroke\"/>");
}

// Names of several words may break behind an underscore, where a column is narrow.
std::string name_html(const std::string& name) {
  std::string out;
  for (const char c : escape(name)) {
    out += c;
    if (c == '_') out += "<wbr>";
  }
  return out;
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::string page(const std::string& title, const std::string& body) {
  return cat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
      "name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      escape(title), "</title>\n<style>", kStyle,
      ".rows svg.forest{height:22px}table.heatmap td{text-align:center;padding:.3em .5em}"
      "table.heatmap td:first-child{text-align:left}svg.plot{display:block;width:100%;max-width:"
      "36rem}@media (max-width:560px){.rows{grid-template-columns:minmax(0,9em) minmax(60px,1fr) "
      "max-content}}</style></head>\n<body><main>\n<h1>",
      escape(title), "</h1>\n", body, "</main></body></html>\n");
}

std::string heading(const std::string& text, const std::string& note) {
  return cat("<h2>", escape(text), "</h2>\n",
             note.empty() ? "" : "<p class=\"soft\">" + escape(note) + "</p>\n");
}

std::string html_table(const Row& head, const std::vector<Row>& rows) {
  std::string out = "<div class=\"scroll\"><table>";
  const auto line = [&](const Row& cells, const char* tag) {
    out += "<tr>";
    for (const std::string& cell : cells) out += cat("<", tag, ">", escape(cell), "</", tag, ">");
    out += "</tr>\n";
  };
  if (rows.empty()) return "<p class=\"soft\">none</p>\n";
  line(head, "th");
  for (const Row& cells : rows) line(cells, "td");
  return out + "</table></div>\n";
}

std::string markdown_table(const Row& head, const std::vector<Row>& rows) {
  std::string out;
  const auto line = [&](const Row& cells) {
    out += "|";
    for (const std::string& cell : cells) {
      std::string safe;
      for (const char c : cell)
        safe += c == '|' ? std::string("\\|") : std::string(1, c == '\n' ? ' ' : c);
      out += " " + safe + " |";
    }
    out += "\n";
  };
  line(head);
  line(Row(head.size(), "---"));
  for (const Row& cells : rows) line(cells);
  return out + "\n";
}

std::string csv(const Row& head, const std::vector<Row>& rows) {
  std::string out;
  const auto line = [&](const Row& cells) {
    for (size_t i = 0; i < cells.size(); ++i) out += (i > 0 ? "," : "") + csv_cell(cells[i]);
    out += "\n";
  };
  line(head);
  for (const Row& cells : rows) line(cells);
  return out;
}

std::string forest(const std::vector<ForestRow>& rows, const std::string& first_label,
                   const std::string& second_label) {
  double reach = 1;
  for (const ForestRow& row : rows)
    for (const double v : {row.low, row.high, row.low2, row.high2})
      if (std::isfinite(v)) reach = std::max(reach, std::abs(v));
  reach = std::min(reach, 8.0);
  const auto x = [&](double v) { return 50 + 50 * std::clamp(v / reach, -1.0, 1.0); };
  std::string out =
      cat("<div class=\"legend\"><span><i style=\"background:var(--soft)\"></i>",
          escape(first_label), "</span><span><i style=\"background:var(--accent)\"></i>",
          escape(second_label), "</span><span>axis from ", fixed(-reach, 1), " to ",
          fixed(reach, 1), ", zero in the middle</span></div>\n<div class=\"rows\">\n");
  for (const ForestRow& row : rows) {
    std::string svg = cat(
        "<svg class=\"forest\" viewBox=\"0 0 100 22\" preserveAspectRatio=\"none\" role=\"img\" "
        "aria-label=\"",
        escape(row.name), " ", escape(row.note),
        "\"><line x1=\"50\" x2=\"50\" y1=\"0\" y2=\"22\" "
        "stroke=\"var(--line)\" stroke-width=\"1.5\" vector-effect=\"non-scaling-stroke\"/>");
    const auto draw = [&](double low, double value, double high, double y, const char* colour) {
      if (!std::isfinite(value)) return;
      svg += line_svg(x(std::isfinite(low) ? low : -reach), x(std::isfinite(high) ? high : reach),
                      y, 2, colour) +
             mark_svg(x(value), y, colour);
    };
    draw(row.low, row.value, row.high, 6, "var(--soft)");
    draw(row.low2, row.value2, row.high2, 16, "var(--accent)");
    out += cat("<div class=\"name\">", name_html(row.name), "</div>", svg,
               "</svg><div class=\"num\">", escape(row.note), "</div>\n");
  }
  return out + "</div>\n";
}

std::string heat(const std::vector<HeatRow>& rows, const Row& columns, bool by_row) {
  double low = INFINITY, high = -INFINITY;
  const auto widen = [](const std::vector<double>& values, double& from, double& to) {
    for (const double v : values)
      if (std::isfinite(v)) from = std::min(from, v), to = std::max(to, v);
  };
  bool counts = true;  // whole numbers alone
  for (const HeatRow& row : rows) {
    widen(row.values, low, high);
    for (const double v : row.values) counts = counts && (!std::isfinite(v) || v == std::floor(v));
  }
  std::string out = "<div class=\"scroll\"><table class=\"heatmap\"><tr><th></th>";
  for (const std::string& name : columns) out += cat("<th>", escape(name), "</th>");
  out += "</tr>\n";
  for (const HeatRow& row : rows) {
    if (by_row) {
      low = INFINITY, high = -INFINITY;
      widen(row.values, low, high);
    }
    out += cat("<tr><td>", escape(row.name), "</td>");
    for (const double v : row.values) {
      const double share = std::isfinite(v) && high > low ? (v - low) / (high - low) : 0;
      out += cat("<td style=\"background:color-mix(in srgb,var(--accent) ",
                 fixed(std::isfinite(v) ? 8 + 55 * share : 0, 0), "%,var(--card))\">",
                 fixed(v, counts || std::abs(v) >= 100 ? 0
                          : std::abs(v) >= 10          ? 1
                                                       : 2),
                 "</td>");
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string lines(const std::vector<Series>& series, const std::string& x_label, bool log_x) {
  double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
  const auto place = [&](double v) { return log_x ? std::log(std::max(v, 1e-12)) : v; };
  for (const Series& s : series)
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!std::isfinite(s.y[i])) continue;
      x0 = std::min(x0, place(s.x[i])), x1 = std::max(x1, place(s.x[i]));
      y0 = std::min(y0, s.y[i]), y1 = std::max(y1, s.y[i]);
    }
  if (!(x1 >= x0)) return "<p class=\"soft\">nothing to draw</p>\n";
  const double wide = std::max(x1 - x0, 1e-9), tall = std::max(y1 - y0, 1e-9);
  const auto px = [&](double v) { return 44 + 360 * (place(v) - x0) / wide; };
  const auto py = [&](double v) { return 186 - 170 * (v - y0) / tall; };
  std::string svg = cat("<svg class=\"plot\" viewBox=\"0 0 420 222\" role=\"img\" aria-label=\"by ",
                        escape(x_label), "\">");
  const auto text = [&](double x, double y, const std::string& label, const char* anchor) {
    svg += cat("<text x=\"", x, "\" y=\"", y,
               "\" font-size=\"12\" fill=\"var(--soft)\" "
               "text-anchor=\"",
               anchor, "\">", escape(label), "</text>");
  };
  text(40, py(y1) + 4, fixed(y1, 2), "end");
  text(40, py(y0) + 4, fixed(y0, 2), "end");
  text(224, 216, x_label, "middle");
  std::string legend = "<div class=\"legend\">";
  for (size_t s = 0; s < series.size(); ++s) {
    const char* colour = kColours[s % std::size(kColours)];
    std::string points, marks;
    for (size_t i = 0; i < series[s].x.size(); ++i) {
      if (!std::isfinite(series[s].y[i])) continue;
      points += cat(fixed(px(series[s].x[i]), 1), ",", fixed(py(series[s].y[i]), 1), " ");
      marks += cat("<circle cx=\"", fixed(px(series[s].x[i]), 1), "\" cy=\"",
                   fixed(py(series[s].y[i]), 1), "\" r=\"4\" fill=\"", colour, "\"><title>",
                   escape(series[s].name), " ", fixed(series[s].y[i], 3), "</title></circle>");
    }
    svg += cat("<polyline points=\"", points, "\" fill=\"none\" stroke=\"", colour,
               "\" stroke-width=\"2\"/>", marks);
    legend +=
        cat("<span><i style=\"background:", colour, "\"></i>", escape(series[s].name), "</span>");
  }
  return svg + "</svg>\n" + legend + "</div>\n";
}

std::string number_text(const nlohmann::ordered_json& value, int digits) {
  return value.is_number() ? fixed(value.get<double>(), digits) : "-";
}

std::string interval_text(double value, double low, double high, int digits) {
  return cat(fixed(value, digits), " [", fixed(low, digits), ", ", fixed(high, digits), "]");
}

std::string interval_text(const nlohmann::ordered_json& i, int digits) {
  if (!i.is_object()) return "-";
  const auto get = [&](const char* key) {
    return i.contains(key) && i[key].is_number() ? i[key].get<double>() : NAN;
  };
  return interval_text(get("estimate"), get("low"), get("high"), digits);
}

nlohmann::ordered_json environment_block(const std::string& device) {
  const at::Device where = resolve_device(device);
  const DeviceFacts facts = device_facts(where);
  const bool gpu = where.is_cuda();
  utsname name{};
  uname(&name);
  char now[32];
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
  using Json = nlohmann::ordered_json;
  return {{"timestamp", now},
          {"program", "kvlingua " KVLINGUA_VERSION},
          {"python", nullptr},
          {"platform", cat(name.sysname, " ", name.release, " ", name.machine)},
          {"torch", TORCH_VERSION},
          {"cuda_available", gpu},
          {"numpy", nullptr},
          {"scipy", nullptr},
          {"gpu_name", gpu ? Json(facts.name) : Json()},
          {"gpu_vram_gb", gpu ? Json(static_cast<double>(facts.memory) / 1e9) : Json()},
          {"gpu_compute_capability", gpu ? Json(facts.capability) : Json()},
          {"cuda_version", gpu ? Json(facts.cuda_runtime) : Json()},
          {"transformers", nullptr}};
}

std::string write_files(const ReportFiles& files, const nlohmann::ordered_json& results,
                        const std::string& markdown, const std::string& html) {
  make_directories(files.json.parent_path());
  const std::string text = results.dump(1) + "\n";
  write_file_atomic(files.markdown, markdown);
  write_file_atomic(files.html, html);
  for (const auto& [file, content] : files.csv) write_file_atomic(file, content);
  write_file_atomic(files.json, text);  // last: where it is, the others are
  return sha256_hex(text);
}

}  // namespace kvlingua::report
