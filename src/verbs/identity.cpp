// The verb identity: which persona a system prompt gave a model, recognised from its caches, and
// whether a projector carries that across (eval/personas/).
#include <algorithm>
#include <optional>

#include "eval/geometry/older_results.h"
#include "eval/geometry/page.h"
#include "eval/personas/compare_signatures.h"
#include "eval/personas/signatures.h"
#include "eval/report/html_parts.h"
#include "geometry_run.h"
#include "identity.h"
#include "identity_transfer.h"
#include "identity_verb.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"

namespace kvlingua::verbs {

namespace {

using report::interval_text;
using report::number_text;
using report::Row;

struct SectionOnly {
  IdentityOptions identity;
  template <class V>
  void visit(V& v) {
    v.section("identity", identity);
  }
};

IdentityOptions options_of(const CommandLine& command, const IdentityVerb& verb,
                           const GeometryRun& run) {
  SectionOnly section;
  if (run.recipe)
    section.identity = run.recipe->identity;
  else
    for (const std::string& set : command.set) throw_first(set_option(visit_of(section), set));
  IdentityOptions& options = section.identity;
  if (!verb.personas.empty()) options.personas = verb.personas;
  if (!verb.format.empty()) options.format = verb.format;
  if (command.seed) options.seed = *command.seed;
  if (verb.geometry.options.limit > 0) options.prompts_per_group = verb.geometry.options.limit;
  if (verb.geometry.input_only) options.new_tokens = 0;
  if (verb.skip_permutation) options.permutations = 0;
  return options;
}

IdentityDesign design_of(const IdentityOptions& options) {
  IdentityDesign design = read_identity(
      options.personas.empty() ? builtin_identity()
                               : std::filesystem::path(resolve_path(options.personas)));
  shorten(design, options.wordings, options.prompts_per_group);
  return design;
}

// Every text with every prompt; ids are persona|topic / label / wording / prompt.
struct Planned {
  std::vector<MeasureRequest> requests;
  std::vector<Signature> places;  // of each request
  std::vector<bool> topic;
};
Planned plan(
    const IdentityDesign& design, const SystemTexts& texts,
    const std::function<std::vector<int64_t>(const std::string&, const std::string&)>& join) {
  Planned out;
  const auto add = [&](const std::vector<Persona>& kinds,
                       const std::vector<std::vector<std::string>>& systems, bool topic) {
    for (size_t k = 0; k < kinds.size(); ++k)
      for (size_t w = 0; w < systems[k].size(); ++w) {
        int64_t prompt = 0;
        for (size_t g = 0; g < design.groups.size(); ++g)
          for (const std::string& text : design.groups[g].prompts) {
            out.requests.push_back(
                {cat(topic ? "topic/" : "persona/", kinds[k].key, "/", w + 1, "/", prompt + 1),
                 join(systems[k][w], text)});
            out.places.push_back({static_cast<int64_t>(k),
                                  static_cast<int64_t>(w),
                                  static_cast<int64_t>(g),
                                  prompt++,
                                  {},
                                  0});
            out.topic.push_back(topic);
          }
      }
  };
  add(design.personas, texts.personas, false);
  add(design.topics, texts.topics, true);
  return out;
}

const Row kRowHead = {"what is classified", "accuracy"};
std::vector<Row> accuracy_rows(const Json& r) {
  std::vector<Row> rows;
  for (const auto& [name, row] : r["classification"]["rows"].items())
    rows.push_back({name, interval_text(row, 3)});
  for (const auto& [name, row] : r["classification"]["extras"].items())
    rows.push_back({"personas, " + name, interval_text(row, 3)});
  for (const auto& [name, row] : r["classification"]["above"].items())
    rows.push_back({"personas above " + name, interval_text(row, 3)});
  return rows;
}
const Row kTransferHead = {"condition", "written as the persona", "a style marker occurs", "n"};
std::vector<Row> transfer_rows(const Json& r) {
  std::vector<Row> rows;
  const Json transfer = r.value("identity_transfer", Json::object());
  const Json conditions = transfer.value("rows", Json::object());
  for (const auto& [name, row] : conditions.items())
    rows.push_back({name, interval_text(row, 3), interval_text(row["markers"], 3),
                    std::to_string(row["n"].get<int64_t>())});
  const Json above = transfer.value("above", Json::object());
  for (const auto& [name, row] : above.items())
    rows.push_back({"translated above " + name, interval_text(row, 3), "-", "-"});
  if (transfer.contains("share_of_gap"))
    rows.push_back(
        {"share of the gap to full_text", interval_text(transfer["share_of_gap"], 3), "-", "-"});
  return rows;
}
const Row kRecognitionHead = {"cache", "own label most likely", "n", "verdict"};
std::vector<Row> recognition_rows(const Json& r) {
  std::vector<Row> rows;
  const Json conditions = r.value("self_recognition", Json::object()).value("rows", Json::object());
  for (const auto& [name, row] : conditions.items())
    rows.push_back({name, interval_text(row, 3), std::to_string(row["n"].get<int64_t>()),
                    row["verdict"].get<std::string>()});
  return rows;
}
std::string transfer_text(const Json& r) {
  const Json transfer = r.value("identity_transfer", Json());
  if (!transfer.is_object()) return {};
  const std::string reason = transfer.value("reason", std::string());
  return cat("identity transfer: ", transfer["verdict"].get<std::string>(),
             reason.empty() ? "" : " (" + reason + ")");
}
const Row kPersonaHead = {"persona", "n", "mean key norm", "std", "cache tokens"};
std::vector<Row> persona_rows(const Json& r) {
  std::vector<Row> rows;
  for (const auto& [key, p] : r["fingerprinting"]["persona_stats"].items())
    rows.push_back({key, std::to_string(p["n"].get<int64_t>()), number_text(p["mean"]),
                    number_text(p["std"]), number_text(p["mean_cache_tokens"], 1)});
  return rows;
}
const Row kPairHead = {"pair", "d, raw", "Holm", "d, length out", "d of length"};
std::vector<Row> pair_rows(const Json& r) {
  std::vector<Row> rows;
  for (const auto& [key, p] : r["pairwise_analysis"]["pairwise_norm_comparisons"].items())
    rows.push_back({key, number_text(p["cohens_d"]["d"]), number_text(p["p_holm"], 4),
                    interval_text(p["length_adjusted"]), number_text(p["length_only_d"])});
  return rows;
}

const Row kCompareHead = {"finding of the older file", "there", "here", "survives"};
std::vector<Row> compare_rows(const Json& r) {
  std::vector<Row> rows;
  for (const Json& one : r.value("compared", Json::array()))
    rows.push_back({one["finding"].get<std::string>(), number_text(one["old"], 3),
                    one["new"].is_object() ? interval_text(one["new"], 3) : "-",
                    one["survives"].get<std::string>()});
  return rows;
}

std::string verdict_text(const Json& r) {
  const Json &verdict = r["verdict"], &test = r["classification"]["permutation_test"];
  return cat("identity: ", verdict["identity"].get<std::string>(),
             verdict["reason"] == "" ? "" : " (" + verdict["reason"].get<std::string>() + ")",
             ", accuracy ", interval_text(r["classification"]["rows"]["personas"], 3),
             " in unseen wordings, permutation p ", number_text(test["p_value"], 4));
}

std::string body_markdown(const Json& r) {
  std::string out = cat("# Identity signatures: ", r["metadata"]["model"].get<std::string>(),
                        "\n\n", verdict_text(r), "\n\n");
  for (const Json& f : r["failed_prompts"])
    out += cat("- **failed** ", f["prompt"].get<std::string>(), ": ",
               f["reason"].get<std::string>(), "\n");
  out += report::markdown_table(kRowHead, accuracy_rows(r)) +
         report::markdown_table(kPersonaHead, persona_rows(r)) +
         report::markdown_table(kPairHead, pair_rows(r));
  if (const auto rows = recognition_rows(r); !rows.empty())
    out += cat("## Self-recognition\n\n", report::markdown_table(kRecognitionHead, rows));
  if (const std::string text = transfer_text(r); !text.empty())
    out += cat("## Identity transfer\n\n", text, "\n\n",
               report::markdown_table(kTransferHead, transfer_rows(r)));
  if (const auto rows = compare_rows(r); !rows.empty())
    out += cat("## Older findings\n\n", report::markdown_table(kCompareHead, rows));
  return out;
}

std::string body_html(const Json& r, const IdentityDesign& design) {
  std::string out = cat("<p>", verdict_text(r), "</p>\n");
  if (!r["failed_prompts"].empty())
    out += cat("<p class=\"banner bad\">", r["failed_prompts"].size(),
               " prompts could not be measured; the JSON names them.</p>\n");
  out += report::heading("Classification",
                         "One wording and one group of prompts left out at a time.") +
         report::html_table(kRowHead, accuracy_rows(r));
  Row names;
  for (const Persona& p : design.personas) names.push_back(p.key);
  std::vector<report::HeatRow> rows;
  for (size_t p = 0; p < names.size(); ++p)
    rows.push_back(
        {names[p], r["classification"]["confusion_matrix"][p].get<std::vector<double>>()});
  out += report::heading("Confusion", "Rows: the persona; columns: what it was taken for.") +
         report::heat(rows, names, false);
  report::Series series{"accuracy", {}, {}};
  for (const Json& l : r["layer_analysis"]["per_layer_accuracy"])
    series.x.push_back(l["layer"]), series.y.push_back(l["accuracy"]);
  out += report::heading("Layers") + report::lines({series}, "layer", false);
  out += report::heading("Fingerprints") + report::html_table(kPersonaHead, persona_rows(r)) +
         report::heading("Pairs") + report::html_table(kPairHead, pair_rows(r));
  if (const auto rows = recognition_rows(r); !rows.empty())
    out += report::heading("Self-recognition",
                           "How often the persona's own label gains most from its cache, of " +
                               std::to_string(design.personas.size()) + ".") +
           report::html_table(kRecognitionHead, rows);
  if (const std::string text = transfer_text(r); !text.empty())
    out += report::heading(
               "Identity transfer",
               "The target never reads a persona's text but under full_text; a classifier of "
               "its own words, made of other wordings and other prompts, says whom it sounds "
               "like.") +
           cat("<p>", report::escape(text), "</p>\n") +
           report::html_table(kTransferHead, transfer_rows(r));
  if (const auto rows = compare_rows(r); !rows.empty())
    out += report::heading("Older findings",
                           "Pairs here with length taken out; told apart only above length and "
                           "above neutral topics, in wordings never seen.") +
           report::html_table(kCompareHead, rows);
  return report::page("Identity signatures: " + r["metadata"]["model"].get<std::string>(), out);
}

// --dry-run.
StageOutcome plan_of(const GeometryRun& run, const Scale& scale, const IdentityOptions& options) {
  const IdentityDesign design = design_of(options);
  const int64_t caches = static_cast<int64_t>(design.personas.size() + design.topics.size()) *
                         design.wordings() * design.prompts();
  return {.text = cat("identity: ", design.personas.size(), " personas and ", design.topics.size(),
                      " neutral topics in ", design.wordings(), " wordings, ", design.prompts(),
                      " prompts in ", design.groups.size(), " groups, ", options.new_tokens,
                      " new tokens: ", caches, " caches of ", scale.model,
                      "\nresults: ", run.results.string(), "\n"),
          .json = {{"model", scale.model},
                   {"personas", design.personas.size()},
                   {"topics", design.topics.size()},
                   {"wordings", design.wordings()},
                   {"prompts", design.prompts()},
                   {"groups", design.groups.size()},
                   {"new_tokens", options.new_tokens},
                   {"caches", caches},
                   {"results", run.results.string()}}};
}

// Caches of one model, and what it says of its own ones where there is no pair.
struct Signatures {
  MeasureResult measured;
  Planned planned;
  SystemTexts texts;
  Json recognition;  // null: not asked of this model alone
};
Signatures measure_signatures(const GeometryRun& run, const Scale& scale,
                              const IdentityOptions& options, const IdentityDesign& design) {
  const OpenedModel opened = open_model(run, scale);
  Signatures out;
  out.texts = system_texts(design, opened.tokenizer, options.equal_length);
  out.planned = plan(design, out.texts, joiner(opened.tokenizer, options.format));
  const std::string id = model_id(scale.model, scale.quantize);
  MeasureOptions how;
  how.new_tokens = options.new_tokens;
  how.batch_size = options.batch_size;
  how.stop_ids = opened.model.config().eos_ids;
  how.file = run.results / cat("identity_signatures_", id, "_features.jsonl");
  how.label = "identity";
  how.resume = run.resume;
  out.measured = measure(opened.model, out.planned.requests, how);
  if (!run.recipe && options.recognition)
    out.recognition =
        model_recognition(opened, design, options,
                          run.results / cat("identity_recognition_", id, ".jsonl"), run.resume);
  return out;
}

// Measurements as what is classified; of those that failed, why.
struct Sorted {
  std::vector<Signature> personas, topics;
  Json failed = Json::array();
};
Sorted sorted(const Signatures& signatures, const std::string& model) {
  Sorted out;
  for (size_t i = 0; i < signatures.measured.measurements.size(); ++i) {
    const Measurement& m = signatures.measured.measurements[i];
    if (!m.ok()) {
      out.failed.push_back({{"prompt", m.id}, {"reason", m.failure}});
      continue;
    }
    Signature s = signatures.planned.places[i];
    s.features = signature_features(m.geometry);
    s.length = static_cast<double>(m.cache_tokens);
    (signatures.planned.topic[i] ? out.topics : out.personas).push_back(std::move(s));
  }
  if (out.personas.empty())
    throw Error({.code = ExitCode::kInput,
                 .where = model,
                 .what = "no prompt could be measured",
                 .got = out.failed[0]["reason"]});
  return out;
}

Json metadata_of(const GeometryRun& run, const Scale& scale, const IdentityOptions& options,
                 const IdentityDesign& design, const Signatures& signatures) {
  const Json environment = report::environment_block(run.device);
  const SystemTexts& texts = signatures.texts;
  SectionOnly section{options};
  Json names = Json::object(), groups = Json::array();
  for (const Persona& p : design.personas) names[p.key] = p.name;
  for (const PromptGroup& g : design.groups) groups.push_back(g.name);
  return {{"experiment", "identity_signatures"},
          {"version", "2.0-publication"},
          {"timestamp", environment["timestamp"]},
          {"environment", environment},
          {"args", options_to_json(visit_of(section))},
          {"model", scale.model},
          {"quantized", scale.quantize},
          {"personas", names},
          {"n_personas", design.personas.size()},
          {"n_wordings", design.wordings()},
          {"n_prompts", design.prompts()},
          {"prompt_groups", groups},
          {"runs_per_prompt", run.runs},
          {"system_tokens",
           {{"shortest", texts.shortest}, {"longest", texts.longest}, {"equal", texts.equal}}},
          {"total_inferences", signatures.planned.requests.size()}};
}

report::ReportFiles files_of(const GeometryRun& run, const std::string& id, const Json& results) {
  const auto named = [&](const char* ending) {
    return run.results / cat("identity_signatures_", id, "_", ending);
  };
  return {named("results.json"),
          named("report.md"),
          named("report.html"),
          {{named("pairs.csv"), report::csv(kPairHead, pair_rows(results))},
           {named("accuracy.csv"), report::csv(kRowHead, accuracy_rows(results))},
           {named("transfer.csv"), report::csv(kTransferHead, transfer_rows(results))}}};
}

std::string text_of(const Json& results) {
  std::string text = verdict_text(results) + "\n";
  for (const Row& row : accuracy_rows(results)) text += cat("  ", row[0], "  ", row[1], "\n");
  for (const Row& row : recognition_rows(results))
    text += cat("self-recognition, ", row[0], ": ", row[1], " ", row[3], "\n");
  if (const std::string line = transfer_text(results); !line.empty()) text += line + "\n";
  for (const Row& row : transfer_rows(results)) text += cat("  ", row[0], "  ", row[1], "\n");
  for (const Row& row : compare_rows(results))
    text += cat("older: ", row[0], "  ", row[1], " there, ", row[2], " here: ", row[3], "\n");
  for (const Json& f : results["failed_prompts"])
    text += cat("  failed: ", f["prompt"].get<std::string>(), ": ", f["reason"].get<std::string>(),
                "\n");
  return text;
}

// `context` where a recipe was named: its run holds the projector of identity transfer. `old`: a
// results file whose findings are looked at again; null: none.
StageOutcome run_identity(const GeometryRun& run, const Scale& scale,
                          const IdentityOptions& options, const RunContext* context,
                          const nlohmann::json& old = nullptr) {
  const IdentityDesign design = design_of(options);
  const Signatures signatures = measure_signatures(run, scale, options, design);
  auto [personas, topics, failed] = sorted(signatures, scale.model);
  Json results = {{"metadata", metadata_of(run, scale, options, design, signatures)}};
  results.update(analyse_signatures(personas, topics, design, options));
  Json more = signatures.recognition;
  if (context != nullptr && (options.recognition || options.transfer))
    more = recipe_transfer(run, *context, design, options,
                           run.results / cat("identity_transfer_", run.recipe->name, ".jsonl"));
  if (more.is_object()) {
    for (const Json& reason : more["failed"])
      failed.push_back({{"prompt", "identity transfer"}, {"reason", reason}});
    more.erase("failed");
    results.update(more);
  }
  results["failed_prompts"] = failed;
  if (!old.is_null()) results["compared"] = compare_signatures(results, old, options);
  const report::ReportFiles files = files_of(run, model_id(scale.model, scale.quantize), results);
  const std::string sha =
      report::write_files(files, results, body_markdown(results), body_html(results, design));
  return {cat(text_of(results), "results: ", files.json.string(), "\nsha256: ", sha,
              "\nreport: ", files.html.string(), "\n"),
          results, failed.empty() ? ExitCode::kOk : ExitCode::kFailed};
}

}  // namespace

StageOutcome identity_stage(const Recipe& recipe, const RunContext& context) {
  const GeometryRun run = geometry_run(recipe, context);
  IdentityOptions options = recipe.identity;
  options.seed = context.seed_or(options.seed);
  return run_identity(run, run.models.back(), options, &context);
}

int IdentityVerb::run(const CommandLine& command) const {
  GeometryRun run = geometry_run(command, geometry);
  nlohmann::json old;  // read before the work, refused before it
  if (!geometry.compare.empty()) {
    old = read_older_results(geometry.compare);
    compare_signatures(Json::object(), old, IdentityOptions());
  }
  if (run.models.empty()) run.models = {find_scale("0.6B")};
  const IdentityOptions options = options_of(command, *this, run);
  if (geometry.options.dry_run) {
    const StageOutcome plan = plan_of(run, run.models.back(), options);
    put_result(command, plan.text, plan.json);
    return 0;
  }
  std::optional<RunContext> context;
  if (run.recipe) {
    context = context_of(command, *run.recipe);
    geometry.options.apply(*context);
  }
  const StageOutcome outcome =
      run_identity(run, run.models.back(), options, context ? &*context : nullptr, old);
  put_result(command, outcome.text, outcome.json);
  return static_cast<int>(outcome.code);
}

}  // namespace kvlingua::verbs
