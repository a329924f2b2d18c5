#include "eval/judging/confirmation.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "eval/judging/judged_checkpoints.h"
#include "eval/judging/judgement.h"
#include "eval/statistics/clustered.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Null where there is none.
Json read_json(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return nullptr;
  return parse_ordered_json(read_text_file(file), file.string());
}

// Nobody chooses it, and no look of this run has used it.
int64_t draw_seed(const Looks& looks) {
  std::random_device device;
  while (true) {
    const auto seed = static_cast<int64_t>(device() & 0x7FFFFFFF);
    if (!looks.knows_seed(seed)) return seed;
  }
}

// Items of each family and form: what the harder gate asks for, by the exploratory report's ceiling
// and design effect where there is one.
int64_t items_from_power(const EvalOptions& options, const fs::path& explored) {
  const Json report = read_json(explored);
  const auto forms = static_cast<int64_t>(options.forms.size());
  int64_t needed = 0;
  const auto ask = [&](double gate, const char* name) {
    double ceiling = 1, gained = 0.01, effect = forms > 1 ? 1.65 : 1;
    if (report.is_object() && report.contains("criteria") && report["criteria"].contains(name)) {
      const Json& seen = report["criteria"][name];
      ceiling = std::max(0.05, seen.value("ceiling", 1.0) - seen.value("floor", 0.0));
      effect = std::max(1.0, seen.value("design_effect", effect));
    }
    const int64_t n =
        stats::items_for_power(options.confirm.power, gate, gate + options.confirm.margin, ceiling,
                               std::min(gained, 1 - ceiling), effect, options.criteria.confidence);
    needed = std::max(needed, n < 0 ? options.confirm.most_items : (n + forms - 1) / forms);
  };
  ask(options.criteria.identity, "identity");
  ask(options.criteria.parametric_knowledge, "parametric_knowledge");
  ask(options.criteria.needle, "needle");
  return std::clamp(std::max(needed, options.items), int64_t{1}, options.confirm.most_items);
}

void check_seeds(const ToConfirm& what, const EvalOptions& options,
                 const std::vector<Finding>& findings, const fs::path& run) {
  if (what.trained >= options.confirm.training_seeds) return;
  std::string got = cat(what.trained);
  for (const Finding& finding : findings)
    if (finding.name == kSeedNotCounted) got += cat("; ", finding.text);
  throw Error({.code = ExitCode::kInput,
               .where = run.string(),
               .what = "too few training seeds to confirm",
               .got = got,
               .expected = cat(options.confirm.training_seeds, " at least"),
               .remedy = cat("run kvlingua train --seeds ", options.confirm.training_seeds,
                             " (what is trained already is kept)")});
}

// Only what a verdict needs: everything else was for exploring.
void keep_what_is_judged(EvalOptions& options, const std::vector<std::string>& replicas) {
  options.conditions = {"baseline", "full_text", "same_cache"};
  for (const bool fused : {false, true})
    if (fused == (options.gated == "fused"))
      for (const auto& control : compulsory_controls(fused)) options.conditions.push_back(control);
  options.conditions.push_back(options.gated);
  options.conditions.insert(options.conditions.end(), replicas.begin(), replicas.end());
  options.partial.clear();
  options.benchmarks.clear();
  options.latency = options.fidelity = false;
}

// A confirmation that was begun and not finished; null when there is none.
Json unfinished(const fs::path& eval, const std::string& checkpoint) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(eval, ignored)) {
    if (!entry.path().filename().string().starts_with("confirm-")) continue;
    const Json plan = read_json(entry.path() / "frozen.json");
    if (plan.is_object() && plan.value("checkpoint", "") == checkpoint &&
        !plan.value("finished", false))
      return plan;
  }
  return nullptr;
}

// Whether there is a look left, and at items that nobody has seen.
void check_looks(const RunContext& context, const Looks& looks, const std::vector<Look>& taken,
                 const Confirmation& plan) {
  const int64_t at_first = taken.empty() ? 0 : taken.front().looks;
  if (at_first > 0 && at_first < plan.looks)
    throw Error({.code = ExitCode::kUsage,
                 .where = "eval.confirm.looks",
                 .what = "more looks than were planned before the first",
                 .got = cat(plan.looks),
                 .expected = cat(at_first, " (the last on ", taken.back().time, ", gate ",
                                 taken.back().met ? "met" : "not met", ")"),
                 .remedy = "train anew, or explore without --confirm"});
  if (plan.look > plan.looks)
    throw Error({.code = ExitCode::kUsage,
                 .where = context.paths.run.string(),
                 .what = "these checkpoints were confirmed on before",
                 .got = cat("look ", plan.look, " (the last on ", taken.back().time, ", gate ",
                            taken.back().met ? "met" : "not met", ")"),
                 .expected = cat(plan.looks, plan.looks == 1 ? " look" : " looks"),
                 .remedy =
                     "train anew, or explore without --confirm; eval.confirm.looks plans more "
                     "before the first"});
  if (context.seed && looks.knows_seed(*context.seed))
    throw Error({.code = ExitCode::kUsage,
                 .where = "--seed",
                 .what = "these items were looked at before",
                 .got = cat(*context.seed),
                 .remedy = "leave --seed out: a fresh one is drawn"});
}

// With what was written down when it was begun.
void go_on(const Json& begun, const EvalOptions& options, Confirmation& plan,
           std::vector<Finding>& findings) {
  plan.seed = begun.value("seed", int64_t{0});
  plan.items = begun.value("items", options.items);
  plan.look = begun.value("look", plan.look);
  const std::string frozen = begun.value("frozen", "");
  if (frozen != plan.frozen)
    findings.push_back({"frozen_changed",
                        cat("the eval section is another than the one that was frozen (sha256 ",
                            frozen.substr(0, 16), ", now ", plan.frozen.substr(0, 16), ")"),
                        true});
}

void write_down(const Confirmation& plan, EvalOptions options) {
  make_directories(plan.folder);
  Json json = plan.to_json();
  json["eval"] = options_to_yaml(visit_of(options));
  write_file_atomic(plan.folder / "frozen.json", json.dump(2) + "\n");
}

}  // namespace

Json Confirmation::to_json() const {
  return {{"seed", seed},        {"items", items},           {"training_seeds", training_seeds},
          {"look", look},        {"looks", looks},           {"confidence", confidence},
          {"frozen", frozen},    {"checkpoint", checkpoint}, {"projectors", projectors},
          {"finished", finished}};
}

std::vector<fs::path> seed_folders(const fs::path& run) {
  std::vector<fs::path> folders;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "seeds", ignored))
    if (entry.is_directory()) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

fs::path ledger_of(const std::map<std::string, NamedProjector>& projectors,
                   const std::string& gated, const fs::path& run) {
  const auto found = projectors.find(gated);
  if (found == projectors.end() || found->second.checkpoint.empty()) return run / "looks.jsonl";
  std::error_code ignored;
  const fs::path at = fs::weakly_canonical(found->second.checkpoint, ignored);
  return (at.has_parent_path() ? at.parent_path() : run) / "looks.jsonl";
}

Looks looks_at(const std::map<std::string, NamedProjector>& projectors, const std::string& gated,
               const fs::path& run) {
  Looks looks(ledger_of(projectors, gated, run));
  std::error_code ignored;
  std::set<fs::path> read{fs::weakly_canonical(looks.file(), ignored)};
  std::vector<fs::path> more{run / "looks.jsonl"};
  for (const auto& folder : seed_folders(run)) more.push_back(folder / "looks.jsonl");
  for (const auto& file : more)
    if (read.insert(fs::weakly_canonical(file, ignored)).second) looks.also_read(file);
  return looks;
}

std::string frozen_hash(const EvalOptions& options) {
  EvalOptions copy = options;
  return sha256_hex(options_to_yaml(visit_of(copy)));
}

Confirmation plan_confirmation(const RunContext& context, const ToConfirm& what, const Looks& looks,
                               EvalOptions& options, std::vector<Finding>& findings) {
  check_seeds(what, options, findings, context.paths.run);
  if (context.limit > 0)
    throw Error({.code = ExitCode::kUsage,
                 .where = "--limit",
                 .what = "a quick look confirms nothing",
                 .remedy = "leave out --limit or --confirm"});
  Confirmation plan;
  plan.training_seeds = 1 + static_cast<int64_t>(what.replicas.size());
  plan.checkpoint = what.checkpoint;
  plan.projectors = what.projectors;
  plan.looks = options.confirm.looks;
  plan.confidence = 1 - (1 - options.criteria.confidence) / static_cast<double>(plan.looks);
  plan.frozen = frozen_hash(options);
  const auto taken = looks.confirmed(what.checkpoint, what.projectors);
  plan.look = static_cast<int64_t>(taken.size()) + 1;
  const Json begun = unfinished(context.paths.eval(), what.checkpoint);
  if (begun.is_null()) {
    check_looks(context, looks, taken, plan);
    plan.seed = context.seed ? *context.seed : draw_seed(looks);
    plan.items = items_from_power(options, context.paths.eval() / "report.json");
  } else {
    go_on(begun, options, plan, findings);
  }
  plan.folder = context.paths.eval() / cat("confirm-", plan.seed);
  keep_what_is_judged(options, what.replicas);
  options.seeds = {plan.seed};
  options.items = plan.items;
  options.criteria.confidence = plan.confidence;
  if (!context.dry_run) write_down(plan, options);
  return plan;
}

void finish(const Confirmation& confirmation) {
  Json json = read_json(confirmation.folder / "frozen.json");
  json["finished"] = true;
  write_file_atomic(confirmation.folder / "frozen.json", json.dump(2) + "\n");
}

LooksTaken take_look(Looks& looks, const std::string& checkpoint, const EvalOptions& options,
                     const std::optional<Confirmation>& confirmation, const Report& report) {
  Look look{.time = utc_now(),
            .mode = confirmation ? "confirm" : "explore",
            .checkpoint = checkpoint,
            .projectors = confirmation ? confirmation->projectors : std::vector<std::string>{},
            .gated = options.gated,
            .seeds = options.seeds,
            .items = options.items,
            .looks = confirmation ? confirmation->looks : 0,
            .frozen = frozen_hash(options),
            .gates = Json::object(),
            .verdicts = Json::object(),
            .met = report.gate_met};
  for (const CriterionResult& criterion : report.criteria) {
    look.gates[criterion.name] = criterion.threshold;
    look.verdicts[criterion.name] = to_string(criterion.verdict);
  }
  LooksTaken taken{.look = looks.add(look), .checkpoint = checkpoint};
  taken.of_the_run = static_cast<int64_t>(looks.all().size());
  taken.at_this_checkpoint = looks.at(checkpoint);
  return taken;
}

}  // namespace kvlingua
