#include "eval/sweep/grid.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "eval/sweep/scales.h"
#include "eval/sweep/trend.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

// A scale's key stands for its model.
std::string model_of(const std::string& name) {
  for (const Scale& scale : known_scales())
    if (scale.key == name && !scale.quantize) return scale.model;
  return name;
}

GridPair pair_from(const std::string& text) {
  const size_t arrow = text.find("->");
  const auto refuse = [&] {
    throw Error({.code = ExitCode::kUsage,
                 .where = "sweep.pairs",
                 .what = "not a pair of models",
                 .got = printable(text, 80),
                 .expected = "source -> target"});
  };
  if (arrow == std::string::npos) refuse();
  GridPair pair{model_of(trimmed(text.substr(0, arrow))),
                model_of(trimmed(text.substr(arrow + 2)))};
  if (pair.source.empty() || pair.target.empty()) refuse();
  return pair;
}

Json known(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json interval_of(double estimate, double low, double high) {
  return {{"estimate", known(estimate)}, {"low", known(low)}, {"high", known(high)}};
}

void add_cost(const CostRow& row, Json& cost) {
  cost["bytes"] = row.bytes;
  cost["tokens"] = row.tokens;
  cost["translate_ms"] = row.translate_ms;
  cost["prefill_ms"] = row.prefill_ms;
  cost["ttft_ratio"] = row.ttft_ratio;
  if (row.prefill_flops > 0)
    cost["translate_by_prefill_flops"] = row.translate_flops / row.prefill_flops;
}

// Where the figure lies in a cell; null where it has none.
Json number_at(const Json& figures, const std::string& path) {
  const Json::json_pointer at("/" + path);
  if (!figures.is_object() || !figures.contains(at)) return nullptr;
  const Json& found = figures.at(at);
  return found.is_number() && std::isfinite(found.get<double>()) ? found : Json();
}

struct Figure {
  const char* name;
  const char* path;
};
// Those that trends are looked for in.
constexpr Figure kTrendFigures[] = {
    {"share of the gap, identity", "share/identity/exact/estimate"},
    {"share of the gap, counterfact", "share/counterfact/exact/estimate"},
    {"share of the gap, needle", "share/needle/exact/estimate"},
    {"KL to the full text", "retention/kl"},
    {"attention output cosine", "fidelity/attention_output_cosine"},
    {"key R2", "fidelity/key_r2"},
    {"value R2", "fidelity/value_r2"},
    {"projector parameters", "projector/parameters"},
    {"translation FLOPs by prefill FLOPs", "cost/translate_by_prefill_flops"},
    {"key rank kept, length-free", "geometry/keys/rho_length_free/estimate"}};

// One model fixed, the figure against the other's size.
void add_trends(const std::vector<GridCell>& cells, bool over_sources, Json& out) {
  std::map<std::string, std::vector<const GridCell*>> lines;
  for (const GridCell& cell : cells)
    if (cell.error.empty()) lines[over_sources ? cell.target : cell.source].push_back(&cell);
  for (auto& [fixed, line] : lines) {
    if (line.size() < 2) continue;
    const auto size = [&](const GridCell* cell) {
      return over_sources ? cell->source_billions : cell->target_billions;
    };
    std::ranges::stable_sort(line, {}, size);
    for (const Figure& figure : kTrendFigures) {
      std::vector<double> sizes, values;
      for (const GridCell* cell : line) {
        const Json value = number_at(cell->figures, figure.path);
        if (!value.is_number()) continue;
        sizes.push_back(size(cell));
        values.push_back(value);
      }
      if (values.size() < 2) continue;
      Json trend = trend_over_scales(figure.name, sizes, values);
      trend["axis"] = over_sources ? "source" : "target";
      trend["fixed"] = fixed;
      out.push_back(std::move(trend));
    }
  }
}

}  // namespace

std::vector<GridPair> grid_pairs(const SweepOptions& options) {
  if (options.sources.empty() != options.targets.empty())
    throw Error({.code = ExitCode::kUsage,
                 .where = options.sources.empty() ? "sweep.sources" : "sweep.targets",
                 .what = "the projector grid has one side only",
                 .expected = "models on both, or sweep.pairs"});
  std::vector<GridPair> pairs;
  std::set<std::pair<std::string, std::string>> seen;
  const auto add = [&](GridPair pair) {
    if (seen.emplace(pair.source, pair.target).second) pairs.push_back(std::move(pair));
  };
  for (const std::string& source : options.sources)
    for (const std::string& target : options.targets)
      if (model_of(source) != model_of(target)) add({model_of(source), model_of(target)});
  for (const std::string& text : options.pairs) add(pair_from(text));
  return pairs;
}

Recipe cell_recipe(const Recipe& sweeping, const GridPair& pair) {
  Recipe cell = Recipe::from_yaml(sweeping.to_yaml(), sweeping.file.string(), sweeping.sweep.cell);
  const auto name = [](ModelOptions& options, const std::string& model) {
    if (options.name != model) options.revision.clear();
    options.name = model;
  };
  name(cell.pair.source, pair.source);
  name(cell.pair.target, pair.target);
  cell.sweep = {};
  cell.identity = {};
  // Some of the prompts are translated, by the sweep's own count.
  cell.sweep.geometry_prompts = sweeping.sweep.geometry_prompts;
  cell.sweep.prompts = sweeping.sweep.prompts;
  return cell;
}

Json cell_figures(const Report& report, const Json& projector, const Json& seconds) {
  Json verdicts = Json::object(), share = Json::object();
  for (const CriterionResult& one : report.criteria) {
    verdicts[one.name] = interval_of(one.statistic, one.low, one.high);
    verdicts[one.name]["verdict"] = to_string(one.verdict);
  }
  for (const AttributedFamily& family : report.attribution.families)
    for (const auto& [kind, attributed] : {std::pair{"exact", &family.exact}, {"nll", &family.nll}})
      for (const AttributedCondition& one : attributed->conditions)
        if (one.name == report.gated && one.share)
          share[family.family][kind] =
              interval_of(one.share->statistic, one.share->low, one.share->high);
  Json figures{
      {"gated", report.gated},
      {"gate_met", report.gate_met},
      {"verdict_line", report.verdict_line},
      {"criteria", verdicts},
      {"share", share},
      {"retention", {{"nll", known(report.retention.nll)}, {"kl", known(report.retention.kl)}}},
      {"fidelity", Json::object()},
      {"projector", projector},
      {"cost", {{"seconds", seconds}}}};
  if (report.fidelity)
    for (const ConditionFidelity& one : report.fidelity->conditions)
      if (one.name == report.gated) figures["fidelity"] = one.mean_json();
  if (report.latency) add_cost(report.latency->median, figures["cost"]);
  return figures;
}

Json analyse_grid(const std::vector<GridCell>& cells) {
  Json rows = Json::array(), failed = Json::array(), trends = Json::array();
  for (const GridCell& cell : cells) {
    Json row = {{"id", cell.id},
                {"source", cell.source},
                {"target", cell.target},
                {"source_billions", cell.source_billions},
                {"target_billions", cell.target_billions}};
    if (cell.error.empty())
      row["figures"] = cell.figures;
    else
      row["error"] = cell.error;
    if (!cell.error.empty()) failed.push_back({{"cell", cell.id}, {"reason", cell.error}});
    rows.push_back(std::move(row));
  }
  add_trends(cells, true, trends);
  add_trends(cells, false, trends);
  return {{"cells", rows}, {"trends", trends}, {"failed", failed}};
}

}  // namespace kvlingua
