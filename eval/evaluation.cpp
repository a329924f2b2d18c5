#include "eval/evaluation.h"

#include <algorithm>
#include <optional>

#include "eval/answers/recital.h"
#include "eval/answers/runner.h"
#include "eval/answers/source_alone.h"
#include "eval/cost.h"
#include "eval/fidelity.h"
#include "eval/judging/attribution.h"
#include "eval/judging/judgement.h"
#include "eval/judging/ladder.h"
#include "eval/report/shown.h"
#include "eval/report/summary.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/options.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

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

using Conditions = std::vector<std::unique_ptr<Condition>>;
using Blocks = std::vector<std::vector<Item>>;

Conditions conditions_of(const EvaluationInput& input) {
  auto conditions =
      make_conditions(input.options, input.projectors, input.target.model->kv_shape());
  if (input.extra == nullptr) return conditions;
  for (auto& planted : *input.extra) {
    std::erase_if(conditions, [&](const auto& one) { return one->name() == planted->name(); });
    conditions.push_back(std::move(planted));
  }
  return conditions;
}

// Items in blocks, which never mix families and forms.
Blocks blocks_of(const EvaluationInput& input) {
  const EvalOptions& options = input.options;
  const int64_t shift = asked_for(options, "raw_shifted") || asked_for(options, "raw_rerotated")
                            ? *std::max_element(options.shifts.begin(), options.shifts.end())
                            : 0;
  std::map<std::string, std::vector<Item>> by_family;
  for (const Probe& probe : input.probes)
    by_family[cat(probe.family, "/", probe.form())].push_back(make_item(
        probe, input.source, input.target, input.alignment, options.max_new_tokens + shift + 1));
  Blocks blocks;
  for (auto& [name, items] : by_family)
    for (auto& block : make_blocks(std::move(items), input.seed))
      blocks.push_back(std::move(block));
  return blocks;
}

RunnerOptions runner_options(const EvaluationInput& input, const Conditions& conditions) {
  RunnerOptions runner{.batch_size = input.options.batch_size,
                       .max_new_tokens = input.options.max_new_tokens,
                       .workers = input.workers,
                       .likelihoods = input.options.retention,
                       .store = {.fingerprint = run_fingerprint(input, conditions),
                                 .resume = input.resume,
                                 .rank = input.world.rank,
                                 .ranks = input.world.size,
                                 .job = cat(input.world.master_addr, ":", input.world.master_port)},
                       .meter = input.meter};
  if (!input.folder.empty()) runner.store.file = input.folder / "generations.jsonl";
  return runner;
}

// Every item under every condition, and the fidelity of the first blocks by the way.
RunnerResult answer_all(const EvaluationInput& input, const Conditions& conditions,
                        const Blocks& blocks, const RunnerOptions& runner, StageMeter& times,
                        FidelityMeter& fidelity) {
  const EvalOptions& options = input.options;
  const auto after_block = [&](Block& block) {
    if (!options.fidelity || block.item(0).probe->family == "cases" || fidelity.full()) return;
    auto timer = times.time("fidelity");
    const int64_t before = fidelity.seen();
    fidelity.add(block);
    timer.stop(static_cast<double>(fidelity.seen() - before));
  };
  return run_conditions(blocks, input.source, input.target, conditions,
                        {.batch_size = options.batch_size,
                         .seed = input.seed,
                         .raw_tokens = options.raw_tokens,
                         .message_tokens = options.message_tokens},
                        runner, after_block);
}

BesideOptions beside_options(const EvaluationInput& input, const char* file,
                             const std::string& fingerprint) {
  return {.file = input.folder.empty() ? std::filesystem::path() : input.folder / file,
          .fingerprint = fingerprint,
          .resume = input.resume,
          .batch_size = input.options.batch_size,
          .max_new_tokens = input.options.max_new_tokens};
}

void answer_source_alone(const EvaluationInput& input, const Blocks& blocks,
                         const std::string& fingerprint, StageMeter& times, Answers& answers) {
  const auto timer = times.time("source alone", static_cast<double>(input.probes.size()));
  answer_by_source(blocks, input.source, beside_options(input, "source_alone.jsonl", fingerprint),
                   answers);
}

// Whether they are there. What stood in the way is a finding that withholds nothing.
bool answer_dense(const EvaluationInput& input, const Blocks& blocks,
                  const std::string& fingerprint, StageMeter& times, Answers& answers,
                  std::vector<Finding>& findings) {
  const auto timer = times.time("dense twin", static_cast<double>(input.probes.size()));
  BesideOptions options = beside_options(input, "full_text_dense.jsonl", fingerprint);
  options.likelihoods = input.options.retention;
  const std::string why_not = answer_by_dense_twin(blocks, *input.twin, options, answers);
  if (why_not.empty()) return true;
  findings.push_back(
      {"no_dense_twin", "what quantising the target costs was not measured: " + why_not, false});
  return false;
}

// What the answers themselves give away, after what was found before them.
std::vector<Finding> findings_on(const EvaluationInput& input, const RunnerResult& run,
                                 int64_t rescored) {
  std::vector<Finding> findings = input.findings;
  if (rescored > 0)
    findings.push_back({"answers_rescored",
                        cat(rescored,
                            " stored answers carried another score than their text has: scored "
                            "again from the text"),
                        false});
  const at::ScalarType dtype = input.target.model->dtype();
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;
  for (Finding& finding : check_answers(run.answers, run.control_distance, half))
    findings.push_back(std::move(finding));
  if (const auto recitals = find_recitals(run.answers, input.probes, input.options.gated))
    findings.push_back(*recitals);
  for (const auto& family : input.options.families)
    if (run.answers.of("full_text", family).empty())
      findings.push_back(
          {"empty_family", family + " has no items: nothing is said about it", false});
  return findings;
}

void judge_answers(const EvaluationInput& input, const Answers& answers, Report& report) {
  const EvalOptions& options = input.options;
  Judgement judgement = judge({.options = options,
                               .projectors = input.projectors,
                               .answers = answers,
                               .seed = input.seed,
                               .replicas = input.replicas,
                               .trained_families = input.trained_families,
                               .confirm = input.confirm},
                              report.findings);
  report.verdict_line = std::move(judgement.line);
  report.judged = judgement.judged;
  report.gate_met = judgement.judged && judgement.met;
  report.criteria = std::move(judgement.criteria);
  report.judging = std::move(judgement.judging);
  report.power = std::move(judgement.power);
  std::vector<std::string> projected;
  for (const auto& [name, projector] : input.projectors)
    if (asked_for(options, name.c_str())) projected.push_back(name);
  report.attribution = attribution(answers, projected,
                                   {.confidence = options.criteria.confidence,
                                    .resamples = std::min<int64_t>(options.bootstrap, 2000),
                                    .seed = input.seed});
}

// The table of conditions with what each of them is and took.
std::vector<ConditionNumbers> table_of(const EvaluationInput& input, const Conditions& conditions,
                                       const std::vector<std::string>& names,
                                       const RunnerResult& run) {
  auto table = summarise(run.answers, names, input.options.criteria.confidence, input.seed);
  for (ConditionNumbers& row : table) {
    const auto found = std::find_if(conditions.begin(), conditions.end(),
                                    [&](const auto& one) { return one->name() == row.name; });
    if (found == conditions.end()) {
      row.definition =
          row.name == kFullTextDense ? full_text_dense_definition() : source_alone_definition();
      continue;
    }
    row.definition = (*found)->definition();
    const auto given = run.answers.of(row.name);
    int64_t bytes = 0;
    for (const Answer* answer : given) bytes += answer->bytes_moved;
    if (!given.empty()) row.bytes_moved = bytes / static_cast<int64_t>(given.size());
    const auto seconds = run.seconds_by_condition.find(row.name);
    if (seconds != run.seconds_by_condition.end()) row.seconds = seconds->second;
  }
  return table;
}

RunNumbers numbers_of(const EvaluationInput& input, const RunnerResult& run) {
  return {.answers = static_cast<int64_t>(run.answers.size()),
          .resumed = run.resumed,
          .generated = run.generated,
          .seconds = run.seconds,
          .processes = input.world.size,
          .batch_size = input.options.batch_size,
          .max_new_tokens = input.options.max_new_tokens};
}

// Everything that is said of the answers but the verdict.
void describe(const EvaluationInput& input, const Conditions& conditions,
              const std::vector<std::string>& names, const RunnerResult& run, Report& report) {
  const EvalOptions& options = input.options;
  report.confirmatory = input.confirm;
  report.gated = options.gated;
  report.limit = std::max<int64_t>(0, input.limit);
  report.controls = check_controls(run.answers);
  report.target_dtype = at::toString(input.target.model->dtype());
  report.conditions = table_of(input, conditions, names, run);
  report.ladder = ladder(run.answers, {.confidence = options.criteria.confidence,
                                       .resamples = options.bootstrap,
                                       .seed = input.seed});
  report.cases = cases_of(run.answers, input.probes, names);
  report.examples = examples_of(run.answers, input.probes, names);
  report.retention = retention(report.conditions, options.gated);
  if (input.twin)
    report.quantisation = quantisation_cost(run.answers, input.twin->weights,
                                            options.criteria.confidence, input.seed);
  report.seeds = options.seeds;
  report.run = numbers_of(input, run);
}

}  // namespace

Evaluation run_evaluation(const EvaluationInput& input) {
  const EvalOptions& options = input.options;
  check_gate(options, input.projectors);
  const Conditions conditions = conditions_of(input);
  std::vector<std::string> names;
  for (const auto& condition : conditions) names.push_back(condition->name());
  const Blocks blocks = blocks_of(input);
  const RunnerOptions runner = runner_options(input, conditions);
  FidelityMeter fidelity(input.projectors, input.target.model->kv_shape());
  std::optional<StageMeter> unread;  // nobody asked for it
  StageMeter& times =
      input.meter != nullptr ? *input.meter : unread.emplace(input.target.model->device());

  RunnerResult run = answer_all(input, conditions, blocks, runner, times, fidelity);
  if (!run.joined) return {.resumed = run.resumed, .generated = run.generated, .joined = false};
  const int64_t rescored = rescore(run.answers, input.probes);
  if (!input.folder.empty()) write_probes(input.probes, input.folder);
  if (asked_for(options, "source_alone")) {
    answer_source_alone(input, blocks, runner.store.fingerprint, times, run.answers);
    names.insert(names.begin(), "source_alone");
  }
  std::vector<Finding> beside;
  if (input.twin &&
      answer_dense(input, blocks, runner.store.fingerprint, times, run.answers, beside))
    names.insert(std::find(names.begin(), names.end(), "full_text") + 1, kFullTextDense);

  Evaluation result;
  Report& report = result.report;
  report.findings = findings_on(input, run, rescored);
  report.findings.insert(report.findings.end(), beside.begin(), beside.end());
  {
    const auto timer = times.time("judge", static_cast<double>(run.answers.size()));
    judge_answers(input, run.answers, report);
  }
  describe(input, conditions, names, run, report);
  {
    const auto timer = times.time("ranks");
    report.fidelity = fidelity.numbers(options.gated);
  }
  {
    const auto timer = times.time("latency");
    if (options.latency) report.latency = measure_cost(input, blocks);
  }
  result.judged = report.judged;
  result.gate_missing = !report.judged && options.gated != "none";
  result.gate_met = report.gate_met;
  result.resumed = run.resumed;
  result.generated = run.generated;
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
