#include "eval/evaluation.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "eval/attribution.h"
#include "eval/cost.h"
#include "eval/fidelity.h"
#include "eval/judgement.h"
#include "eval/ladder.h"
#include "eval/runner.h"
#include "eval/source_alone.h"
#include "eval/summary.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/options.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

// Everything that determines an answer. Batch size, thresholds and intervals do not.
std::string run_fingerprint(const EvaluationInput& input,
                            const std::vector<std::unique_ptr<Condition>>& conditions) {
  Sha256 hash;
  hash.update("answers 2|");  // what a stored answer holds
  hash.update(input.fingerprint);
  hash.update(cat("|", to_string(input.alignment), "|", input.seed, "|",
                  input.options.max_new_tokens, "|", input.options.raw_tokens, "|",
                  input.options.message_tokens, "|", input.options.retention, "|",
                  input.options.gated));
  for (const auto& condition : conditions) {
    // A definition names its checkpoint for the reader; its contents are in input.fingerprint, and
    // where it lies changes no answer.
    std::string definition = condition->definition();
    for (const auto& [name, projector] : input.projectors) {
      const std::string place = " of " + projector.checkpoint;
      if (const size_t at = definition.find(place);
          !projector.checkpoint.empty() && at != std::string::npos)
        definition.erase(at, place.size());
    }
    hash.update(condition->name() + definition);
  }
  for (const Probe& probe : input.probes) {
    hash.update(item_key(probe) + probe.context + "|" + probe.prompt + "|" + probe.answer);
    for (const auto& marker : probe.markers) hash.update("|" + marker);
    for (const auto& known : probe.parametric) hash.update("~" + known);
  }
  return hash.hex();
}

bool asked_for(const EvalOptions& options, const char* name) {
  return std::find(options.conditions.begin(), options.conditions.end(), name) !=
         options.conditions.end();
}

// What was asked, one line an item: with generations.jsonl everything that the numbers stand on, so
// that others can score and judge again (scripts/rescore.py).
void write_probes(const std::vector<Probe>& probes, const std::filesystem::path& folder) {
  std::string lines;
  for (const Probe& probe : probes) {
    const Json json{{"item", item_key(probe)},
                    {"family", probe.family},
                    {"form", probe.form()},
                    {"group", probe.group},
                    {"scored", markers_digest(probe)},
                    {"context", probe.context},
                    {"prompt", probe.prompt},
                    {"markers", probe.markers},
                    {"parametric", probe.parametric},
                    {"answer", probe.answer}};
    lines += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  write_file_atomic(folder / "probes.jsonl", lines);
}

Json findings_json(const std::vector<Finding>& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings)
    list.push_back(
        {{"name", finding.name}, {"text", finding.text}, {"withholds", finding.withholds}});
  return list;
}

Json cases_json(const Answers& answers, const std::vector<Probe>& probes,
                const std::vector<std::string>& conditions) {
  Json cases = Json::object();
  for (const Probe& probe : probes) {
    if (probe.family != "cases") continue;
    auto& one = cases[probe.id];
    for (const auto& name : conditions)
      if (const Answer* answer = answers.find(name, item_key(probe))) {
        Json found = Json::array();
        for (const auto& marker : probe.markers)
          if (occurs(answer->text, marker)) found.push_back(marker);
        one[name] = {
            {"text", answer->text}, {"markers", found}, {"stall", to_string(answer->score.stall)}};
      }
  }
  return cases;
}

// What was asked, so that the report can show it beside the answers.
Json examples_json(const Answers& answers, const std::vector<Probe>& probes,
                   const std::vector<std::string>& conditions) {
  Json examples = Json::array();
  std::map<std::string, int> shown;
  for (const Probe& probe : probes) {
    const int most = probe.family == "cases" ? 100 : 2;
    if (shown[probe.family + probe.form()]++ >= most) continue;
    Json one{{"id", probe.id},
             {"family", probe.family},
             {"form", probe.form()},
             {"context", probe.context},
             {"prompt", probe.prompt},
             {"markers", probe.markers},
             {"parametric", probe.parametric}};
    for (const auto& name : conditions)
      if (const Answer* answer = answers.find(name, item_key(probe)))
        one["answers"][name] = {{"text", answer->text},
                                {"exact", answer->score.exact},
                                {"knowledge", to_string(answer->score.knowledge)},
                                {"stall", to_string(answer->score.stall)}};
    examples.push_back(std::move(one));
  }
  return examples;
}

Json retention_json(const Json& table, const std::string& gated) {
  Json retention{{"nll", nullptr}, {"kl", nullptr}};
  for (const auto& [name, condition] : table.items()) {
    double nll = 0, kl = 0, n = 0;
    for (const auto& [family, cell] : condition["families"].items()) {
      if (cell["nll"].is_null() || cell["kl"].is_null()) continue;
      const double weight = cell["distinct"].get<double>();
      nll += weight * cell["nll"]["mean"].get<double>();
      kl += weight * cell["kl"]["mean"].get<double>();
      n += weight;
    }
    if (n == 0) continue;
    retention["conditions"][name] = {{"nll", nll / n}, {"kl", kl / n}};
    if (name == gated) {
      retention["nll"] = nll / n;
      retention["kl"] = kl / n;
    }
  }
  return retention;
}

}  // namespace

Evaluation run_evaluation(const EvaluationInput& input) {
  const EvalOptions& options = input.options;
  check_gate(options, input.projectors);
  auto conditions = make_conditions(options, input.projectors, input.target.model->kv_shape());
  if (input.extra != nullptr)
    for (auto& condition : *input.extra) {
      std::erase_if(conditions,
                    [&](const auto& existing) { return existing->name() == condition->name(); });
      conditions.push_back(std::move(condition));
    }
  std::vector<std::string> names;
  for (const auto& condition : conditions) names.push_back(condition->name());

  const int64_t shift = asked_for(options, "raw_shifted") || asked_for(options, "raw_rerotated")
                            ? *std::max_element(options.shifts.begin(), options.shifts.end())
                            : 0;
  std::map<std::string, std::vector<Item>> by_family;  // blocks never mix families and forms
  for (const Probe& probe : input.probes)
    by_family[cat(probe.family, "/", probe.form())].push_back(make_item(
        probe, input.source, input.target, input.alignment, options.max_new_tokens + shift + 1));
  std::vector<std::vector<Item>> blocks;
  for (auto& [name, items] : by_family)
    for (auto& block : make_blocks(std::move(items), input.seed))
      blocks.push_back(std::move(block));

  RunnerOptions runner{.batch_size = options.batch_size,
                       .max_new_tokens = options.max_new_tokens,
                       .likelihoods = options.retention,
                       .store = {.fingerprint = run_fingerprint(input, conditions),
                                 .resume = input.resume,
                                 .rank = input.world.rank,
                                 .ranks = input.world.size,
                                 .job = cat(input.world.master_addr, ":", input.world.master_port)},
                       .meter = input.meter};
  if (!input.folder.empty()) runner.store.file = input.folder / "generations.jsonl";
  FidelityMeter meter(input.projectors, input.target.model->kv_shape());
  std::optional<StageMeter> unread;  // nobody asked for it
  StageMeter& times =
      input.meter != nullptr ? *input.meter : unread.emplace(input.target.model->device());
  const auto after_block = [&](Block& block) {
    if (!options.fidelity || block.item(0).probe->family == "cases" || meter.full()) return;
    auto timer = times.time("fidelity");
    const int64_t before = meter.seen();
    meter.add(block);
    timer.stop(static_cast<double>(meter.seen() - before));
  };
  RunnerResult run = run_conditions(blocks, input.source, input.target, conditions,
                                    {.batch_size = options.batch_size,
                                     .seed = input.seed,
                                     .raw_tokens = options.raw_tokens,
                                     .message_tokens = options.message_tokens},
                                    runner, after_block);
  if (!run.joined) return {.resumed = run.resumed, .generated = run.generated, .joined = false};

  std::vector<Finding> findings = input.findings;
  if (const int64_t changed = rescore(run.answers, input.probes); changed > 0)
    findings.push_back({"answers_rescored",
                        cat(changed,
                            " stored answers carried another score than their text has: scored "
                            "again from the text"),
                        false});
  if (!input.folder.empty()) write_probes(input.probes, input.folder);
  if (asked_for(options, "source_alone")) {
    const auto timer = times.time("source alone", static_cast<double>(input.probes.size()));
    answer_by_source(blocks, input.source,
                     {.file = input.folder.empty() ? std::filesystem::path()
                                                   : input.folder / "source_alone.jsonl",
                      .fingerprint = runner.store.fingerprint,
                      .resume = input.resume,
                      .batch_size = options.batch_size,
                      .max_new_tokens = options.max_new_tokens},
                     run.answers);
    names.insert(names.begin(), "source_alone");
  }
  const at::ScalarType dtype = input.target.model->dtype();
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;
  for (Finding& finding : check_answers(run.answers, run.control_distance, half))
    findings.push_back(std::move(finding));
  for (const auto& family : options.families)
    if (run.answers.of("full_text", family).empty())
      findings.push_back(
          {"empty_family", family + " has no items: nothing is said about it", false});
  auto judging = times.time("judge", static_cast<double>(run.answers.size()));
  const Judgement judgement = judge({.options = options,
                                     .projectors = input.projectors,
                                     .answers = run.answers,
                                     .seed = input.seed,
                                     .replicas = input.replicas,
                                     .trained_families = input.trained_families,
                                     .confirm = input.confirm},
                                    findings);
  std::vector<std::string> projected;
  for (const auto& [name, projector] : input.projectors)
    if (asked_for(options, name.c_str())) projected.push_back(name);
  const Json attributed = attribution(run.answers, projected,
                                      {.confidence = options.criteria.confidence,
                                       .resamples = std::min<int64_t>(options.bootstrap, 2000),
                                       .seed = input.seed});
  judging.stop();

  Evaluation result;
  result.judged = judgement.judged;
  result.gate_missing = !judgement.judged && options.gated != "none";
  result.gate_met = judgement.judged && judgement.met;
  result.resumed = run.resumed;
  result.generated = run.generated;
  Json& report = result.report;
  report["mode"] = input.confirm ? "confirmatory" : "exploratory";
  report["verdict_line"] = judgement.line;
  report["gated"] = options.gated;
  report["judged"] = judgement.judged;
  report["gate_met"] = result.gate_met;
  report["quick_look"] = input.limit > 0;
  if (input.limit > 0) report["limit"] = input.limit;
  report["criteria"] = judgement.criteria;
  report["judging"] = judgement.judging;
  report["findings"] = findings_json(findings);
  report["controls"] = Json::array();
  for (const ControlCheck& check : check_controls(run.answers))
    report["controls"].push_back({{"control", check.control},
                                  {"equals", check.reference},
                                  {"n", check.n},
                                  {"equal", check.equal},
                                  {"equal_scores", check.equal_scores}});
  report["target_dtype"] = at::toString(dtype);
  report["conditions"] = summarise(run.answers, names, options.criteria.confidence, input.seed);
  if (asked_for(options, "source_alone"))
    report["conditions"]["source_alone"]["definition"] = source_alone_definition();
  for (const auto& condition : conditions) {
    auto& json = report["conditions"][condition->name()];
    json["definition"] = condition->definition();
    const auto given = run.answers.of(condition->name());
    int64_t bytes = 0;
    for (const Answer* answer : given) bytes += answer->bytes_moved;
    if (!given.empty()) json["bytes_moved"] = bytes / static_cast<int64_t>(given.size());
    if (run.seconds_by_condition.contains(condition->name()))
      json["seconds"] = run.seconds_by_condition[condition->name()];
  }
  report["ladder"] = ladder(run.answers, {.confidence = options.criteria.confidence,
                                          .resamples = options.bootstrap,
                                          .seed = input.seed});
  report["cases"] = cases_json(run.answers, input.probes, names);
  report["examples"] = examples_json(run.answers, input.probes, names);
  report["retention"] = retention_json(report["conditions"], options.gated);
  {
    const auto timer = times.time("ranks");
    report["fidelity"] = meter.to_json(options.gated);
  }
  {
    const auto timer = times.time("latency");
    report["latency"] = options.latency ? measure_cost(input, blocks) : Json();
  }
  report["attribution"] = attributed;
  report["power"] = judgement.power;
  report["seeds"] = options.seeds;
  report["run"] = {{"answers", run.answers.size()},
                   {"resumed", run.resumed},
                   {"generated", run.generated},
                   {"seconds", run.seconds},
                   {"processes", input.world.size},
                   {"batch_size", options.batch_size},
                   {"max_new_tokens", options.max_new_tokens}};
  result.answers = std::move(run.answers);
  return result;
}

std::vector<Probe> make_probes(const EvalOptions& options, const std::vector<int64_t>& seeds,
                               FamilyStyle style, int64_t limit) {
  std::vector<Probe> probes;
  const int64_t n = limit > 0 ? std::min(limit, options.items) : options.items;
  for (int64_t seed : seeds)
    for (const auto& family : options.families)
      for (const auto& form : options.forms)
        for (const auto& item : make_family({.family = family,
                                .completion = form == "completion",
                                .split = Split::kHeldOut,
                                .n = n,
                                .seed = static_cast<uint64_t>(seed),
                                .style = style}))
          probes.push_back(to_probe(item));
  check_probes(probes, "families");
  if (options.cases)
    for (auto& probe : read_probes(builtin_probes("phase2a"), "cases"))
      probes.push_back(std::move(probe));
  const auto add_file = [&](std::vector<Probe> from) {
    if (limit > 0 && static_cast<int64_t>(from.size()) > limit)
      from.resize(static_cast<size_t>(limit));
    for (auto& probe : from) probes.push_back(std::move(probe));
  };
  for (const auto& file : options.probe_files)
    add_file(read_probes(file, std::filesystem::path(file).stem().string()));
  for (const auto& file : options.counterfact_files) add_file(read_counterfact(file, limit));
  return probes;
}

}  // namespace kvlingua
