#include "sweep_grid.h"

#include <cctype>
#include <set>

#include "checkpoints/load_projector.h"
#include "datasets/generate.h"
#include "eval/evaluate.h"
#include "eval/geometry/page.h"
#include "eval/sweep/grid.h"
#include "eval/sweep/kept_geometry.h"
#include "eval/sweep/prompts.h"
#include "eval/sweep/scales.h"
#include "geometry_run.h"
#include "kvlingua/base/clock.h"
#include "kvlingua/base/log.h"
#include "kvlingua/bridge/cache_bridge.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/config/stages.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/sha256.h"
#include "trainers/train.h"

namespace kvlingua::verbs {

namespace {

namespace fs = std::filesystem;

struct Cell {
  std::string id;
  Recipe recipe;
  RunContext context;
  fs::path kept() const { return context.paths.run / "cell.json"; }
  // What a kept result is of.
  std::string mark() const {
    return sha256_hex(cat("grid 1|", recipe.recipe_sha256(), "|", context.seed.value_or(-1)));
  }
};

std::string cell_id(const GridPair& pair, std::set<std::string>& taken) {
  std::string id = cat(model_id(pair.source, false), "_", model_id(pair.target, false));
  for (char& c : id)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-' && c != '+')
      c = '_';
  const std::string name = id;
  for (int n = 2; !taken.insert(id).second; ++n) id = cat(name, "-", n);
  return id;
}

Cell make_cell(const Recipe& recipe, const RunContext& context, const GridPair& pair,
               const std::string& id) {
  Cell cell{id, cell_recipe(recipe, pair), context};
  cell.context.paths.dataset =
      context.paths.out / "datasets" / cat(recipe.dataset_name(), "-sweep") / id;
  cell.context.paths.run = context.paths.run / "sweep" / id;
  cell.context.limit = 0;
  cell.context.checkpoint.clear();
  cell.context.compare.clear();
  cell.context.confirm = false;
  cell.context.seeds = 1;
  cell.context.dry_run = false;
  return cell;
}

// Spread over the categories, the first of each first.
std::vector<std::string> texts_of(const SweepOptions& options) {
  const auto categories =
      read_prompts(options.prompts.empty() ? builtin_cognitive_modes()
                                           : fs::path(resolve_path(options.prompts)));
  std::vector<std::string> texts;
  for (size_t i = 0; static_cast<int64_t>(texts.size()) < options.geometry_prompts; ++i) {
    const size_t before = texts.size();
    for (const PromptCategory& category : categories)
      if (i < category.prompts.size() &&
          static_cast<int64_t>(texts.size()) < options.geometry_prompts)
        texts.push_back(category.prompts[i]);
    if (texts.size() == before) break;
  }
  return texts;
}

// The folder of a control's checkpoint has the control's name.
std::string stage_of(const std::string& gated) {
  const StageFacts* stage = stage_of_condition(gated);
  return stage != nullptr ? stage->name : gated;
}

// The judged projector's size, and whether it keeps the geometry of the prompts' caches.
struct Judged {
  Json projector, geometry;
};
Judged look_at_projector(const Cell& cell, const std::string& gated) {
  const at::Device device = at::Device(cell.context.device);
  const OpenModel source = open_model(cell.recipe.pair.source, device),
                  target = open_model(cell.recipe.pair.target, device);
  const LoadedProjector loaded =
      load_projector(cell.context.paths.run, device, at::kFloat, stage_of(gated));
  Judged out;
  out.projector = {{"kind", loaded.projector->kind()},
                   {"parameters", loaded.projector->parameter_count()}};
  const SweepOptions& options = cell.recipe.sweep;
  if (options.geometry_prompts == 0) return out;
  const Reader reads = reader_of(source), continues = reader_of(target);
  out.geometry =
      judge_kept(kept_ranks(reads, continues, *loaded.projector,
                            alignment_kind_from_name(cell.recipe.pair.alignment), texts_of(options),
                            options.batch_size),
                 {.confidence = options.confidence, .seed = static_cast<uint64_t>(options.seed)});
  return out;
}

// A cell from nothing, or from where it stopped, to its figures.
Json work_on(const Cell& cell) {
  Json seconds = Json::object();
  const auto timed = [&](const char* name, const auto& work) {
    const double start = wall_seconds();
    log_info(cat("cell ", cell.id, ": ", name));
    auto result = work();
    seconds[name] = wall_seconds() - start;
    return result;
  };
  timed("generate", [&] { return generate(cell.recipe, cell.context); });
  timed("train", [&] { return train(cell.recipe, cell.context); });
  const EvaluateResult judged =
      timed("evaluate", [&] { return evaluate(cell.recipe, cell.context); });
  const Report& report = judged.report.value();
  const Judged projector = timed("geometry", [&] { return look_at_projector(cell, report.gated); });
  Json figures = cell_figures(report, projector.projector, seconds);
  if (!projector.geometry.is_null()) figures["geometry"] = projector.geometry;
  return figures;
}

double billions_of(const ModelOptions& options) {
  return static_cast<double>(ModelConfig::from_directory(locate_model(options)).parameter_count()) /
         1e9;
}

// What the report looks up without asking.
bool readable(const Json& figures) {
  if (!figures.is_object() || !figures.contains("gated") || !figures["gated"].is_string() ||
      !figures.contains("gate_met") || !figures["gate_met"].is_boolean())
    return false;
  const Json::json_pointer keys("/geometry/keys"), verdict("/geometry/keys/verdict");
  return !figures.contains(keys) || (figures.contains(verdict) && figures.at(verdict).is_string());
}

// Null when there is none of the same recipe, or when what stands there is not what was written.
Json kept_figures(const Cell& cell) {
  std::error_code ignored;
  if (!cell.context.resume || !fs::exists(cell.kept(), ignored)) return nullptr;
  try {
    const Json kept = parse_ordered_json(read_text_file(cell.kept()), cell.kept().string());
    const bool mine = kept.is_object() && kept.contains("mark") && kept["mark"] == cell.mark();
    if (!mine || !kept.contains("figures") || !readable(kept["figures"])) return nullptr;
    const bool changed =
        kept.contains("sha256") && kept["sha256"] != sha256_hex(kept["figures"].dump());
    return changed ? Json() : kept["figures"];
  } catch (const Error&) {
    return nullptr;  // half written, or not ours
  }
}

GridCell run_cell(const Cell& cell, const GridPair& pair) {
  GridCell out{pair.source, pair.target, cell.id, 0, 0, nullptr, {}};
  out.error = failure_of([&] {
    out.source_billions = billions_of(cell.recipe.pair.source);
    out.target_billions = billions_of(cell.recipe.pair.target);
    out.figures = kept_figures(cell);
    if (!out.figures.is_null()) {
      log_info(cat("cell ", cell.id, ": done before"));
      return;
    }
    out.figures = work_on(cell);
    const Json kept = {{"mark", cell.mark()},
                       {"sha256", sha256_hex(out.figures.dump())},
                       {"figures", out.figures}};
    write_file_atomic(cell.kept(), kept.dump(1) + "\n");
  });
  if (!out.error.empty()) log_warning(cat("cell ", cell.id, ": ", out.error));
  return out;
}

}  // namespace

bool has_grid(const Recipe& recipe) { return !grid_pairs(recipe.sweep).empty(); }

std::string grid_plan(const Recipe& recipe) {
  std::string text = "sweep: projectors over scales, by this recipe\n";
  for (const GridPair& pair : grid_pairs(recipe.sweep))
    text += cat("  ", pair.source, " -> ", pair.target, "\n");
  for (const std::string& set : recipe.sweep.cell) text += cat("  in each: ", set, "\n");
  return text;
}

StageOutcome run_grid(const Recipe& recipe, const RunContext& context, const fs::path& results) {
  std::vector<GridCell> cells;
  std::set<std::string> taken;
  for (const GridPair& pair : grid_pairs(recipe.sweep)) {
    const std::string id = cell_id(pair, taken);
    cells.push_back(run_cell(make_cell(recipe, context, pair, id), pair));
  }
  const Json environment = report::environment_block(context.device);
  Json document = {{"metadata",
                    {{"experiment", "projector_sweep"},
                     {"recipe", recipe.name},
                     {"recipe_sha256", recipe.recipe_sha256()},
                     {"timestamp", environment["timestamp"]},
                     {"environment", environment},
                     {"cell", recipe.sweep.cell}}},
                   {"grid", analyse_grid(cells)}};
  const std::string name = cat("projector_sweep_", recipe.name);
  report::ReportFiles files{results / (name + "_results.json"),
                            results / (name + "_report.md"),
                            results / (name + "_report.html"),
                            {}};
  for (auto& [ending, text] : grid_csv(document))
    files.csv.emplace_back(results / cat(name, "_", ending), std::move(text));
  const std::string sha =
      report::write_files(files, document, grid_markdown(document), grid_html(document));
  const bool failed = !document["grid"]["failed"].empty();
  return {cat("projectors over scales:\n", grid_summary(document), "results: ", files.json.string(),
              "\nsha256: ", sha, "\nreport: ", files.html.string(), "\n"),
          document, failed ? ExitCode::kFailed : ExitCode::kOk};
}

}  // namespace kvlingua::verbs
