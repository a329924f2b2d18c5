#include "sweep.h"

#include <algorithm>
#include <optional>

#include "eval/geometry/older_results.h"
#include "eval/geometry/page.h"
#include "eval/statistics/comparison.h"
#include "eval/sweep/grid.h"
#include "eval/sweep/modes.h"
#include "eval/sweep/modes_report.h"
#include "geometry_run.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "sweep_grid.h"
#include "sweep_verb.h"

namespace kvlingua::verbs {

namespace {

// Keys of the section alone, for a run without a recipe.
struct SectionOnly {
  SweepOptions sweep;
  template <class V>
  void visit(V& v) {
    v.section("sweep", sweep);
  }
};

// --scale and --all-scales.
std::vector<Scale> scales_of(const SweepVerb& verb) {
  std::vector<Scale> scales;
  for (const std::string& key : verb.scales) {
    scales.push_back(find_scale(key));
    scales.back().quantize = scales.back().quantize || verb.geometry.quantize;
  }
  if (verb.all_scales) scales.insert(scales.end(), known_scales().begin(), known_scales().end());
  return scales;
}

SweepOptions options_of(const CommandLine& command, const SweepVerb& verb, GeometryRun& run) {
  SweepOptions options;
  if (run.recipe) {
    options = run.recipe->sweep;
    if (verb.geometry.models.empty() && verb.scales.empty() && !options.models.empty()) {
      run.models.clear();
      for (const std::string& name : options.models) {
        const bool key =
            std::ranges::any_of(known_scales(), [&](const Scale& s) { return s.key == name; });
        run.models.push_back(key ? find_scale(name) : Scale{model_id(name, false), name, false, 0});
      }
    }
  } else {
    SectionOnly section;
    for (const std::string& set : command.set) throw_first(set_option(visit_of(section), set));
    options = section.sweep;
  }
  if (!verb.prompts.empty()) options.prompts = verb.prompts;
  if (command.seed) options.seed = *command.seed;
  const GeometryOptions& geometry = verb.geometry;
  if (geometry.options.limit > 0) options.prompts_per_category = geometry.options.limit;
  if (geometry.input_only) options.new_tokens = 0;
  return options;
}

std::vector<PromptCategory> prompts_of(const SweepOptions& options) {
  const std::filesystem::path file = options.prompts.empty()
                                         ? builtin_cognitive_modes()
                                         : std::filesystem::path(resolve_path(options.prompts));
  return choose_prompts(read_prompts(file), options.categories, options.prompts_per_category);
}

std::string design_text(const GeometryRun& run, const SweepOptions& options,
                        const std::vector<PromptCategory>& categories) {
  std::string text = "sweep: cognitive modes\nmodels:\n";
  for (const Scale& scale : run.models)
    text += cat("  ", scale.key, "  ", scale.model, scale.quantize ? " (NF4)" : "", "\n");
  size_t prompts = 0, smallest = categories.empty() ? 0 : categories[0].prompts.size();
  text += "categories:\n";
  for (const PromptCategory& category : categories) {
    prompts += category.prompts.size();
    smallest = std::min(smallest, category.prompts.size());
    text += cat("  ", category.name, ": ", category.prompts.size(), "\n");
  }
  text += cat(prompts, " prompts, ", options.new_tokens,
              " new tokens each; 27 comparisons of 9 pairs, Holm over all\n");
  const auto n = static_cast<int64_t>(smallest);
  if (n > 1) {
    text += cat("power with ", n, " prompts a category:");
    for (const double d : {0.3, 0.5, 0.8, 1.0}) {
      char one[32];
      std::snprintf(one, sizeof one, " d = %.1f %.2f", d, stats::power_two_samples(d, n, n));
      text += one;
    }
    text += "\n";
  }
  return text + cat("results: ", run.results.string(), "\n");
}

Json models_json(const std::vector<Scale>& scales) {
  Json out = Json::array();
  for (const Scale& scale : scales)
    out.push_back({{"scale", scale.key}, {"model", scale.model}, {"quantize", scale.quantize}});
  return out;
}

Json design_json(const GeometryRun& run, const SweepOptions& options,
                 const std::vector<PromptCategory>& categories) {
  Json counts = Json::object();
  for (const PromptCategory& category : categories) counts[category.name] = category.prompts.size();
  return {{"models", models_json(run.models)},
          {"categories", counts},
          {"new_tokens", options.new_tokens},
          {"results", run.results.string()}};
}

// --dry-run: what would be measured and trained.
StageOutcome plan_of(const GeometryRun& run, const SweepOptions& options) {
  StageOutcome plan{.text = {}, .json = Json::object()};
  if (options.modes) {
    const std::vector<PromptCategory> categories = prompts_of(options);
    plan = {.text = design_text(run, options, categories),
            .json = design_json(run, options, categories)};
  }
  if (!run.recipe || !has_grid(*run.recipe)) return plan;
  plan.text += grid_plan(*run.recipe);
  for (const GridPair& pair : grid_pairs(run.recipe->sweep))
    plan.json["projectors"].push_back({{"source", pair.source}, {"target", pair.target}});
  return plan;
}

// Nothing was named: what could be.
void put_usage(const CommandLine& command) {
  std::string text =
      "usage: kvlingua sweep RECIPE|MODEL... [--scale KEY] [--all-scales] [--model ID]\n"
      "name a model, a scale or a recipe; `kvlingua sweep --help` says more\nscales:\n";
  for (const Scale& scale : known_scales())
    text += cat("  ", scale.key, "  ", scale.model, scale.quantize ? " (NF4)" : "", "\n");
  put_result(command, text, {{"scales", models_json(known_scales())}});
}

MeasuredScale measure_model(const GeometryRun& run, const Scale& scale, const SweepOptions& options,
                            const std::vector<PromptCategory>& categories) {
  const OpenedModel opened = open_model(run, scale);
  MeasureOptions how;
  how.new_tokens = options.new_tokens;
  how.batch_size = options.batch_size;
  how.stop_ids = opened.model.config().eos_ids;
  how.file =
      run.results / cat("scale_sweep_", model_id(scale.model, scale.quantize), "_features.jsonl");
  how.label = "sweep " + scale.key;
  how.resume = run.resume;
  MeasuredScale measured = measure_scale(
      opened.model, scale, categories,
      [&](const std::string& text) { return opened.tokenizer.encode(text, true).ids; }, how,
      run.runs);
  if (run.verbosity > 0)
    for (const MeasuredCategory& category : measured.categories)
      for (const Measurement& m : category.prompts)
        log_info(m.ok() ? cat(m.id, ": ", m.input_tokens, " tokens, ", m.cache_tokens,
                              " cached, norm ", total(m.geometry.keys.norm))
                        : cat(m.id, ": ", m.failure));
  if (measured.positions > 0)
    log_info(cat(how.label, ": ", measured.positions, " cached positions in ",
                 duration_text(measured.seconds)));
  return measured;
}

Json metadata_of(const GeometryRun& run, const SweepOptions& options,
                 const std::vector<PromptCategory>& categories) {
  Json pairs = Json::array();
  for (const ModePair& pair : mode_pairs())
    pairs.push_back(
        {{"cat1", pair.first}, {"cat2", pair.second}, {"key", pair.key}, {"label", pair.label}});
  size_t total_prompts = 0, most = 0;
  for (const PromptCategory& category : categories) {
    total_prompts += category.prompts.size();
    most = std::max(most, category.prompts.size());
  }
  const Json environment = report::environment_block(run.device);
  SectionOnly section{options};
  return {{"experiment", "scale_sweep"},
          {"version", "2.0-publication"},
          {"timestamp", environment["timestamp"]},
          {"environment", environment},
          {"args", options_to_json(visit_of(section))},
          {"dtype", run.dtype},
          {"n_categories", categories.size()},
          {"n_prompts_per_category", most},
          {"total_unique_prompts", total_prompts},
          {"runs_per_prompt", run.runs},
          {"comparison_pairs", pairs}};
}

// Every model, one after the other; a model that fails leaves its reason and the others go on.
// `old`: a results file whose findings are looked at again; null: none.
StageOutcome run_modes(const GeometryRun& run, const SweepOptions& options,
                       const nlohmann::json& old) {
  const std::vector<PromptCategory> categories = prompts_of(options);
  std::vector<MeasuredScale> measured;
  Json scales = Json::object();
  for (const Scale& scale : run.models) {
    MeasuredScale one;
    const std::string failure =
        failure_of([&] { one = measure_model(run, scale, options, categories); });
    one.scale = scale;
    one.error = failure;
    if (!failure.empty()) log_warning(cat("sweep ", scale.key, ": ", failure));
    scales[scale.key] = analyse_scale(one, options);
    measured.push_back(std::move(one));
  }
  const bool several = run.models.size() > 1;
  const Scale& first = run.models.front();
  const std::string id = several ? "all" : model_id(first.model, first.quantize);
  const std::string name = several || first.key == "custom" ? id : first.key;
  Json results = {{"metadata", metadata_of(run, options, categories)}, {"scales", scales}};
  results["cross_scale"] = several ? analyse_scales(measured, scales, options) : Json();
  if (!old.is_null()) results["compared"] = compare_with(results, old, options);
  report::ReportFiles files{run.results / cat("scale_sweep_", id, "_results.json"),
                            run.results / cat("scale_sweep_", name, "_report.md"),
                            run.results / cat("scale_sweep_", name, "_report.html"),
                            {}};
  for (auto& [ending, text] : modes_csv(results))
    files.csv.emplace_back(run.results / cat("scale_sweep_", id, "_", ending), std::move(text));
  const std::string sha =
      report::write_files(files, results, modes_markdown(results), modes_html(results));
  StageOutcome outcome;
  outcome.text = cat(modes_summary(results), "results: ", files.json.string(), "\nsha256: ", sha,
                     "\nreport: ", files.html.string(), "\n");
  outcome.json = results;
  outcome.code = complete(measured) ? ExitCode::kOk : ExitCode::kFailed;
  return outcome;
}

// Cognitive modes, then the projector grid; `context` is needed for the grid alone.
StageOutcome run_both(const GeometryRun& run, const SweepOptions& options,
                      const nlohmann::json& old, const RunContext* context) {
  StageOutcome outcome;
  outcome.json = Json::object();
  if (options.modes) outcome = run_modes(run, options, old);
  if (context == nullptr || !has_grid(*run.recipe)) return outcome;
  StageOutcome grid = run_grid(*run.recipe, *context, run.results);
  outcome.text += grid.text;
  outcome.json["projectors"] = std::move(grid.json);
  if (grid.code != ExitCode::kOk) outcome.code = grid.code;
  return outcome;
}

}  // namespace

StageOutcome sweep_stage(const Recipe& recipe, const RunContext& context) {
  GeometryRun run = geometry_run(recipe, context);
  CommandLine command;
  command.seed = context.seed;
  const SweepOptions options = options_of(command, SweepVerb(), run);
  return run_both(run, options, nullptr, &context);
}

int SweepVerb::run(const CommandLine& command) const {
  GeometryRun run = geometry_run(command, geometry, scales_of(*this));
  const SweepOptions options = options_of(command, *this, run);
  nlohmann::json old;  // read before the work, refused before it
  if (!geometry.compare.empty()) {
    old = read_older_results(geometry.compare);
    check_older_sweep(old, geometry.compare);
  }
  if (run.models.empty()) {
    put_usage(command);
    return 0;
  }
  std::optional<RunContext> context;
  if (run.recipe) {
    context = context_of(command, *run.recipe);
    geometry.options.apply(*context);
  }
  if (!run.recipe && !grid_pairs(options).empty())
    throw Error({.code = ExitCode::kUsage,
                 .where = "sweep.sources",
                 .what = "a projector grid needs a recipe to train each cell by",
                 .remedy = "name a recipe: kvlingua sweep RECIPE"});
  if (geometry.options.dry_run) {
    const StageOutcome plan = plan_of(run, options);
    put_result(command, plan.text, plan.json);
    return 0;
  }
  const StageOutcome outcome = run_both(run, options, old, context ? &*context : nullptr);
  put_result(command, outcome.text, outcome.json);
  return static_cast<int>(outcome.code);
}

}  // namespace kvlingua::verbs
