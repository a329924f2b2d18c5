// Pages of the projector grid, made from its JSON alone.
#include <cmath>
#include <map>

#include "eval/geometry/page.h"
#include "eval/report/html_parts.h"
#include "eval/sweep/grid.h"
#include "eval/sweep/scales.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
using report::interval_text;
using report::number_text;
using report::Row;

Json at_path(const Json& figures, const char* path) {
  const Json::json_pointer at(path);
  return figures.contains(at) ? figures.at(at) : Json();
}

std::string name_of(const Json& cell) {
  return cat(model_id(cell["source"], false), " -> ", model_id(cell["target"], false));
}

std::string billions_text(const Json& cell) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3g / %.3g", cell["source_billions"].get<double>(),
                cell["target_billions"].get<double>());
  return text;
}

std::string count_text(const Json& value) {
  if (!value.is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.3g M", value.get<double>() / 1e6);
  return text;
}

const Row kHead = {
    "source -> target", "billions", "judged",           "gap, identity", "counterfact",
    "needle",           "KL",       "attention cosine", "projector",     "FLOPs/prefill",
    "key rank kept",    "gates"};
std::vector<Row> rows_of(const Json& results) {
  std::vector<Row> rows;
  for (const Json& cell : results["grid"]["cells"]) {
    if (cell.contains("error")) {
      Row row = {name_of(cell), billions_text(cell), "failed: " + cell["error"].get<std::string>()};
      row.resize(kHead.size(), "-");
      rows.push_back(std::move(row));
      continue;
    }
    const Json& f = cell["figures"];
    rows.push_back({name_of(cell), billions_text(cell), f["gated"].get<std::string>(),
                    interval_text(at_path(f, "/share/identity/exact")),
                    interval_text(at_path(f, "/share/counterfact/exact")),
                    interval_text(at_path(f, "/share/needle/exact")),
                    number_text(at_path(f, "/retention/kl"), 3),
                    number_text(at_path(f, "/fidelity/attention_output_cosine"), 3),
                    count_text(at_path(f, "/projector/parameters")),
                    number_text(at_path(f, "/cost/translate_by_prefill_flops")),
                    cat(interval_text(at_path(f, "/geometry/keys/rho_length_free")), " ",
                        f.contains("geometry") && f["geometry"].contains("keys")
                            ? f["geometry"]["keys"]["verdict"].get<std::string>()
                            : ""),
                    f["gate_met"] == true ? "met" : "not met"});
  }
  return rows;
}

const Row kTrendHead = {"figure", "axis", "the other model", "scales", "rho", "exact p", "verdict"};
std::vector<Row> trend_rows(const Json& results) {
  std::vector<Row> rows;
  for (const Json& t : results["grid"]["trends"])
    rows.push_back({t["comparison"], t["axis"], model_id(t["fixed"], false),
                    std::to_string(t["n_scales"].get<int64_t>()),
                    t.contains("rho") ? number_text(t["rho"]) : "-",
                    t.contains("rho") ? number_text(t["p_value"], 3) : "-", t["verdict"]});
  return rows;
}

std::string title_of(const Json& results) {
  return "Projectors over scales: " + results["metadata"]["recipe"].get<std::string>();
}

const char* how_to_read() {
  return "One row a pair of models, trained and judged by one recipe. Shares are of the gap "
         "between "
         "no text and the whole text, with the evaluation's own intervals. Each cell is one "
         "training "
         "seed: a difference between cells holds for these checkpoints. A trend needs five sizes.";
}

// Sizes against one figure, a line for each model that stays the same.
std::string plot(const Json& results, const std::string& figure, const std::string& axis) {
  std::vector<report::Series> series;
  for (const Json& t : results["grid"]["trends"])
    if (t["comparison"] == figure && t["axis"] == axis)
      series.push_back({model_id(t["fixed"], false), t["sizes"], t["effects"]});
  if (series.empty()) return {};
  return cat("<h3>", report::escape(figure), "</h3>\n",
             report::lines(series, cat("billions of the ", axis, "'s parameters"), true));
}

}  // namespace

std::string grid_markdown(const Json& results) {
  return cat("# ", title_of(results), "\n\n", how_to_read(), "\n\n",
             report::markdown_table(kHead, rows_of(results)), "## Trends\n\n",
             report::markdown_table(kTrendHead, trend_rows(results)));
}

std::string grid_html(const Json& results) {
  std::string out = cat("<p>", report::escape(how_to_read()), "</p>\n");
  if (!results["grid"]["failed"].empty()) {
    out += "<div class=\"banner bad\">Failed:<ul>";
    for (const Json& f : results["grid"]["failed"])
      out += cat("<li>", report::escape(f["cell"].get<std::string>()), ": ",
                 report::escape(f["reason"].get<std::string>()), "</li>");
    out += "</ul></div>\n";
  }
  out += report::heading("Cells") + report::html_table(kHead, rows_of(results));
  std::string plots;
  for (const char* axis : {"source", "target"})
    for (const char* figure : {"share of the gap, identity", "share of the gap, counterfact",
                               "KL to the full text", "attention output cosine"})
      plots += plot(results, figure, axis);
  if (!plots.empty()) out += report::heading("Against scale") + plots;
  out += report::heading("Trends", "Rank correlation of a figure with one model's size.") +
         report::html_table(kTrendHead, trend_rows(results));
  return report::page(title_of(results), out);
}

std::vector<std::pair<std::string, std::string>> grid_csv(const Json& results) {
  std::vector<Row> points;
  for (const Json& t : results["grid"]["trends"])
    for (size_t i = 0; i < t["sizes"].size(); ++i)
      points.push_back(
          {t["comparison"], t["axis"], t["fixed"], t["sizes"][i].dump(), t["effects"][i].dump()});
  return {{"cells.csv", report::csv(kHead, rows_of(results))},
          {"trends.csv", report::csv({"figure", "axis", "fixed", "billions", "value"}, points)}};
}

std::string grid_summary(const Json& results) {
  std::string out;
  for (const Row& row : rows_of(results))
    out += cat("  ", row[0], "  ", row[2],
               row[11] == "-" ? ""
                              : cat("  identity ", row[3], "  counterfact ", row[4], "  KL ",
                                    row[6], "  key rank ", row[10]),
               "\n");
  return out;
}

}  // namespace kvlingua
