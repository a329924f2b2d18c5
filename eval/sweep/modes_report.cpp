#include "eval/sweep/modes_report.h"

#include <cmath>

#include "eval/geometry/page.h"
#include "eval/report/html_parts.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
using report::interval_text;
using report::number_text;
using report::Row;

double value_or_nan(const Json& v) { return v.is_number() ? v.get<double>() : NAN; }

const Row kCategoryHead = {"Category",  "N",          "Mean Norm",    "Std",   "Mean/Token",
                           "Eff. Rank", "Spectral H", "Cache tokens", "95% CI"};
std::vector<Row> category_rows(const Json& scale) {
  std::vector<Row> rows;
  for (const auto& [name, s] : scale["analysis"]["category_summaries"].items()) {
    const Json& ci = s["norm_ci"];
    rows.push_back({name, std::to_string(s["n"].get<int64_t>()), number_text(s["mean_norm"]),
                    number_text(s["std_norm"]), number_text(s["mean_norm_per_token"]),
                    number_text(s["mean_key_rank"]), number_text(s["mean_key_entropy"], 4),
                    number_text(s["mean_cache_tokens"], 1),
                    ci.is_object() ? cat("[", number_text(ci["ci_lower"]), ", ",
                                         number_text(ci["ci_upper"]), "]")
                                   : "-"});
  }
  return rows;
}

const Row kComparisonHead = {"Comparison",  "n",      "d, raw",        "p (Welch)",
                             "p (M-W)",     "Holm",   "d, length out", "Holm (length out)",
                             "d of length", "verdict"};
std::vector<Row> comparison_rows(const Json& scale) {
  std::vector<Row> rows;
  for (const auto& [key, c] : scale["analysis"]["pairwise_comparisons"].items()) {
    if (c.contains("error")) {
      rows.push_back({key, "-", "-", "-", "-", "-", "-", "-", "-", c["error"].get<std::string>()});
      continue;
    }
    const Json& d = c["cohens_d"];
    rows.push_back(
        {key, cat(c["group1"]["n"].get<int64_t>(), "/", c["group2"]["n"].get<int64_t>()),
         interval_text(value_or_nan(d["d"]), value_or_nan(d["ci_lower"]),
                       value_or_nan(d["ci_upper"])),
         number_text(c["welch_t"]["p_value"], 4), number_text(c["mann_whitney"]["p_value"], 4),
         number_text(c["p_holm"], 4), interval_text(c["length_adjusted"]),
         number_text(c["length_adjusted"]["p_holm"], 4), number_text(c["length_only_d"]),
         cat(c["verdict"].get<std::string>(),
             c["length_adjusted"].value("lengths_apart", false) ? " (lengths do not overlap)"
             : c["length_artefact"].get<bool>()                 ? " (raw effect is its length)"
                                                                : "")});
  }
  return rows;
}

const Row kHypothesisHead = {"Hypothesis", "feature", "d, length out", "threshold", "verdict"};
std::vector<Row> hypothesis_rows(const Json& scale) {
  std::vector<Row> rows;
  for (const auto& [name, h] : scale["analysis"]["hypothesis_tests"].items())
    for (const auto& [feature, f] : h.items())
      if (f.is_object())
        rows.push_back({cat(name, ": ", h["hypothesis"].get<std::string>()), feature,
                        interval_text(f["length_adjusted"]), number_text(f["threshold"], 1),
                        f["verdict"].get<std::string>()});
  return rows;
}

std::string notes_of(const Json& scale) {
  std::string text;
  const Json& power = scale["analysis"]["power"];
  text += cat("Power with ", power["n_per_category"].get<int64_t>(),
              " distinct prompts a category: d = .3 ", number_text(power["d_0.3"]["power"]),
              ", .5 ", number_text(power["d_0.5"]["power"]), ", .8 ",
              number_text(power["d_0.8"]["power"]), ". ");
  const Json& r = scale["analysis"]["correlation_with_cache_length"];
  text += cat("Correlation with the number of cached tokens over all prompts: norm ",
              number_text(r["norm"]), ", rank ", number_text(r["eff_rank"]), ". ");
  if (scale["runs"]["asked"].get<int64_t>() > 1)
    text += cat("Greedy runs repeat themselves (checked: ",
                scale["runs"]["repeats_equal"] == true ? "equal bits" : "NOT equal", "), so ",
                scale["runs"]["asked"].get<int64_t>(), " runs count as one. ");
  return text;
}

Row failed_lines(const Json& scale) {
  Row lines;
  for (const Json& f : scale["failed_prompts"])
    lines.push_back(cat(f["prompt"].get<std::string>(), ": ", f["reason"].get<std::string>()));
  return lines;
}

const Row kCorrelationHead = {"scales", "rho of category norms", "p, prompts permuted",
                              "invariant by the users' rule"};
std::vector<Row> correlation_rows(const Json& cross) {
  std::vector<Row> rows;
  for (const Json& c : cross["rank_correlations"]) {
    const std::string pair =
        cat(c["scale1"].get<std::string>(), " and ", c["scale2"].get<std::string>());
    if (c.contains("error"))
      rows.push_back({pair, c["error"], "-", "-"});
    else
      rows.push_back(
          {pair,
           interval_text(value_or_nan(c["rho"]), value_or_nan(c["low"]), value_or_nan(c["high"])),
           number_text(c["p_prompts_permuted"], 4), c["invariant"] == true ? "yes" : "no"});
  }
  return rows;
}

const Row kTrendHead = {"effect", "scales", "rho with size", "verdict"};
std::vector<Row> trend_rows(const Json& cross) {
  std::vector<Row> rows;
  for (const auto& [key, t] : cross["effect_size_trends"].items())
    rows.push_back({key, std::to_string(t["n_scales"].get<int64_t>()),
                    t.contains("rho") ? number_text(t["rho"]) : "-", t["verdict"]});
  return rows;
}

const Row kCompareHead = {"comparison", "old d (distinct prompts)", "new d, length out",
                          "survives"};
std::vector<Row> compare_rows(const Json& rows_json) {
  std::vector<Row> rows;
  for (const Json& r : rows_json)
    rows.push_back({r["comparison"], interval_text(r["old_d"]),
                    r.contains("new_d") ? interval_text(r["new_d"]) : "-", r["survives"]});
  return rows;
}

std::string how_to_read() {
  return "d is Cohen's, positive where the first category is higher. Raw effects carry the length "
         "of "
         "the texts; \"length out\" is the same after a parabola in the cached tokens, taken from "
         "variation inside categories, and is what the verdict reads: shown when its whole "
         "interval "
         "lies beyond the threshold and it survives Holm's correction over all comparisons, none "
         "when "
         "the interval lies inside the threshold, else undecided. Where fewer than three prompts "
         "of "
         "either category lie inside the other's range of lengths nothing is decided: the "
         "adjustment "
         "would be an extrapolation.";
}

std::string title_of(const Json& results) {
  std::string models;
  for (const auto& [key, scale] : results["scales"].items())
    models += (models.empty() ? "" : ", ") + scale["config"]["model"].get<std::string>();
  return "Cognitive modes in the cache: " + models;
}

std::vector<report::ForestRow> forest_rows(const Json& scale) {
  std::vector<report::ForestRow> rows;
  for (const auto& [key, c] : scale["analysis"]["pairwise_comparisons"].items()) {
    if (c.contains("error")) continue;
    const Json &d = c["cohens_d"], &a = c["length_adjusted"];
    rows.push_back({key, value_or_nan(d["ci_lower"]), value_or_nan(d["d"]),
                    value_or_nan(d["ci_upper"]), value_or_nan(a["low"]),
                    value_or_nan(a["estimate"]), value_or_nan(a["high"]), c["verdict"]});
  }
  return rows;
}

std::vector<report::HeatRow> layer_rows(const Json& scale, const char* what) {
  std::vector<report::HeatRow> rows;
  for (const auto& [name, layers] : scale["layers"].items())
    rows.push_back({name, layers[what].get<std::vector<double>>()});
  return rows;
}

Row layer_names(const Json& scale) {
  Row names;
  for (int64_t i = 0; i < scale["model_info"]["num_layers"].get<int64_t>(); ++i)
    names.push_back(std::to_string(i));
  return names;
}

void scale_html(const std::string& key, const Json& scale, std::string& out) {
  out += report::heading(cat(key, ": ", scale["config"]["model"].get<std::string>()));
  if (scale.contains("error")) {
    out += cat("<p class=\"banner bad\">Not measured: ",
               report::escape(scale["error"].get<std::string>()), "</p>\n");
    return;
  }
  if (const Row failed = failed_lines(scale); !failed.empty()) {
    out += cat("<div class=\"banner bad\">", failed.size(), " prompts could not be measured:<ul>");
    for (const std::string& line : failed) out += cat("<li>", report::escape(line), "</li>");
    out += "</ul></div>\n";
  }
  out += cat("<p class=\"soft\">", report::escape(notes_of(scale)), "</p>\n");
  out += "<h3>Hypotheses</h3>\n" + report::html_table(kHypothesisHead, hypothesis_rows(scale));
  out += "<h3>Effects</h3>\n" + report::forest(forest_rows(scale), "raw", "length out");
  out += report::html_table(kComparisonHead, comparison_rows(scale));
  out += "<h3>Categories</h3>\n" + report::html_table(kCategoryHead, category_rows(scale));
  out += "<h3>Key effective rank by layer</h3>\n" +
         report::heat(layer_rows(scale, "key_rank"), layer_names(scale), false);
  out += "<h3>Key norm by layer</h3>\n" +
         report::heat(layer_rows(scale, "key_norm"), layer_names(scale), false);
}

void cross_html(const Json& results, std::string& out) {
  const Json& cross = results["cross_scale"];
  if (cross.is_null() || cross["scales_compared"].size() < 2) return;
  out += report::heading("Over scales");
  out += cat("<p>Order of categories over scales: <span class=\"chip inconclusive\">",
             report::escape(cross["h4_verdict"]["verdict"].get<std::string>()), "</span></p>\n");
  out += report::html_table(kCorrelationHead, correlation_rows(cross));
  Row columns;
  std::vector<report::HeatRow> rows;
  for (const Json& name : cross["scales_compared"]) columns.push_back(name);
  for (const auto& [name, s] :
       results["scales"][columns[0]]["analysis"]["category_summaries"].items()) {
    report::HeatRow row{name, {}};
    for (const std::string& scale : columns) {
      const Json& summaries = results["scales"][scale]["analysis"]["category_summaries"];
      row.values.push_back(summaries.contains(name) ? value_or_nan(summaries[name]["mean_key_rank"])
                                                    : NAN);
    }
    rows.push_back(std::move(row));
  }
  out += "<h3>Key effective rank, category by scale</h3>\n" + report::heat(rows, columns, false);
  std::vector<report::Series> series;
  for (const auto& [key, t] : cross["effect_size_trends"].items())
    series.push_back({key, t["sizes"], t["effects"]});
  out += "<h3>Length-free effects against size</h3>\n" +
         report::lines(series, "billions of parameters", true) +
         report::html_table(kTrendHead, trend_rows(cross));
}

}  // namespace

std::string modes_markdown(const Json& results) {
  std::string out = cat("# ", title_of(results), "\n\n", how_to_read(), "\n\n");
  for (const auto& [key, scale] : results["scales"].items()) {
    out += cat("## ", key, ": ", scale["config"]["model"].get<std::string>(), "\n\n");
    if (scale.contains("error")) {
      out += cat("Not measured: ", scale["error"].get<std::string>(), "\n\n");
      continue;
    }
    for (const std::string& line : failed_lines(scale)) out += cat("- **failed** ", line, "\n");
    out += cat("\n", notes_of(scale), "\n\n");
    out += report::markdown_table(kCategoryHead, category_rows(scale));
    out += "### Hypotheses\n\n" + report::markdown_table(kHypothesisHead, hypothesis_rows(scale));
    out += "### Comparisons\n\n" + report::markdown_table(kComparisonHead, comparison_rows(scale));
  }
  const Json& cross = results["cross_scale"];
  if (!cross.is_null() && cross["scales_compared"].size() > 1) {
    out += cat("## Over scales\n\nOrder of categories: **",
               cross["h4_verdict"]["verdict"].get<std::string>(), "**.\n\n",
               report::markdown_table(kCorrelationHead, correlation_rows(cross)),
               report::markdown_table(kTrendHead, trend_rows(cross)));
  }
  if (results.contains("compared"))
    for (const auto& [scale, rows] : results["compared"].items())
      out += cat("## Against the older results: ", scale, "\n\n",
                 report::markdown_table(kCompareHead, compare_rows(rows)));
  return out;
}

std::string modes_html(const Json& results) {
  std::string out = cat("<p>", report::escape(how_to_read()), "</p>\n");
  for (const auto& [key, scale] : results["scales"].items()) scale_html(key, scale, out);
  cross_html(results, out);
  if (results.contains("compared"))
    for (const auto& [scale, rows] : results["compared"].items())
      out += report::heading("Against the older results: " + scale) +
             report::html_table(kCompareHead, compare_rows(rows));
  return report::page(title_of(results), out);
}

std::vector<std::pair<std::string, std::string>> modes_csv(const Json& results) {
  std::vector<Row> categories, comparisons, layers;
  const auto tagged = [](const std::string& scale, Row row) {
    row.insert(row.begin(), scale);
    return row;
  };
  for (const auto& [key, scale] : results["scales"].items()) {
    if (scale.contains("error")) continue;
    for (Row& row : category_rows(scale)) categories.push_back(tagged(key, std::move(row)));
    for (const auto& [name, c] : scale["analysis"]["pairwise_comparisons"].items()) {
      if (c.contains("error")) continue;
      const Json &d = c["cohens_d"], &a = c["length_adjusted"];
      comparisons.push_back({key, name, d["d"].dump(), d["ci_lower"].dump(), d["ci_upper"].dump(),
                             a["estimate"].dump(), a["low"].dump(), a["high"].dump(),
                             c["length_only_d"].dump(), c["verdict"]});
    }
    for (const auto& [name, l] : scale["layers"].items())
      for (size_t i = 0; i < l["key_norm"].size(); ++i)
        layers.push_back(
            {key, name, std::to_string(i), l["key_norm"][i].dump(), l["key_rank"][i].dump()});
  }
  Row head = kCategoryHead;
  head.insert(head.begin(), "Scale");
  return {
      {"categories.csv", report::csv(head, categories)},
      {"comparisons.csv",
       report::csv({"scale", "comparison", "d", "low", "high", "d_length_out", "low_length_out",
                    "high_length_out", "d_of_length", "verdict"},
                   comparisons)},
      {"layers.csv", report::csv({"scale", "category", "layer", "key_norm", "key_rank"}, layers)}};
}

std::string modes_summary(const Json& results) {
  std::string out;
  for (const auto& [key, scale] : results["scales"].items()) {
    out += cat(key, " (", scale["config"]["model"].get<std::string>(), "): ");
    if (scale.contains("error")) {
      out += "not measured: " + scale["error"].get<std::string>() + "\n";
      continue;
    }
    int64_t shown = 0, artefacts = 0, none = 0, all = 0;
    std::string names;
    for (const auto& [name, c] : scale["analysis"]["pairwise_comparisons"].items()) {
      if (c.contains("error")) continue;
      ++all;
      none += c["verdict"] == "none";
      artefacts += c["length_artefact"].get<bool>();
      if (c["verdict"] != "shown") continue;
      ++shown;
      names += cat("\n  ", name, " d ", interval_text(c["length_adjusted"]), " (raw ",
                   number_text(c["cohens_d"]["d"]), ")");
    }
    out += cat(shown, " of ", all, " effects shown with length taken out, ", none, " none, ",
               all - shown - none, " undecided; ", artefacts, " raw effects are their length",
               names, "\n");
    for (const std::string& line : failed_lines(scale)) out += cat("  failed: ", line, "\n");
  }
  const Json& cross = results["cross_scale"];
  if (!cross.is_null() && cross["scales_compared"].size() > 1)
    out +=
        cat("order of categories over scales: ", cross["h4_verdict"]["verdict"].get<std::string>(),
            "\n");
  return out;
}

}  // namespace kvlingua
