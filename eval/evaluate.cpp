#include "eval/evaluate.h"

#include <torch/version.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "checkpoints/load_projector.h"
#include "checkpoints/provenance.h"
#include "eval/benchmarks/benchmark.h"
#include "eval/confirmation.h"
#include "eval/evaluation.h"
#include "eval/looks.h"
#include "eval/report/report.h"
#include "eval/summary.h"
#include "eval/training_record.h"
#include "kvlingua/base/log.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/identity.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Side {
  std::shared_ptr<CausalLM> model;
  std::shared_ptr<Tokenizer> tokenizer;
};

Side load_side(const ModelOptions& options, at::Device device) {
  Side side;
  OpenModel opened = open_model(options, device);
  side.model = std::make_shared<CausalLM>(std::move(opened.model));
  side.tokenizer = std::make_shared<Tokenizer>(std::move(opened.files.tokenizer));
  return side;
}

Reader reader_of(const Side& side, const ModelOptions& options) {
  return Reader::make(*side.model, *side.tokenizer, chat_frame_of(options, *side.tokenizer));
}

bool wants(const EvalOptions& options, const std::string& name) {
  return std::find(options.conditions.begin(), options.conditions.end(), name) !=
         options.conditions.end();
}

// The projectors of a run, loaded, and what was said while looking for them.
struct Checkpoints {
  std::map<std::string, NamedProjector> named;
  std::vector<std::unique_ptr<Projector>> owned;
  std::vector<Finding> findings;
  std::vector<TrainingRecord> trained;         // what made each of them
  std::vector<std::string> replicas;           // conditions: the gated one by other training seeds
  std::map<std::string, std::string> hash_of;  // by condition, of the projector's tensors
  std::string hashes;                          // of all

  void add(const std::string& condition, std::unique_ptr<Projector> projector,
           const std::string& where) {
    Sha256 hash;
    for (const auto& [name, tensor] : projector->state()) {
      const at::Tensor bytes = tensor.to(at::kCPU).contiguous();
      hash.update(name);
      hash.update(bytes.const_data_ptr(), bytes.numel() * bytes.element_size());
    }
    hash_of[condition] = hash.hex();
    hashes += condition + ":" + hash.hex() + ";";
    named[condition] = {projector.get(), where};
    owned.push_back(std::move(projector));
  }

  // Whether there was one. Throws Error: kCorrupt when damaged, kInput when it is of another pair.
  bool load(const std::string& condition, const fs::path& path, const std::string& stage,
            const Side& source, const Side& target, const Recipe& recipe) {
    std::optional<LoadedProjector> loaded;
    try {
      loaded.emplace(load_projector(path, target.model->device(), at::kFloat, stage));
    } catch (const Error& error) {
      if (error.code() != ExitCode::kInput) throw;
      findings.push_back({"no_checkpoint", cat(condition, ": ", error.what()), false});
      return false;
    }
    loaded->check_models(*source.model, *target.model);
    for (const auto& skipped : loaded->skipped)
      findings.push_back({"damaged_checkpoint", skipped, false});
    trained.push_back(training_record_of(condition, *loaded, recipe, findings));
    if (!loaded->stage_finished)
      findings.push_back({"stage_not_finished",
                          cat(condition, ": stage ", loaded->stage, " is at step ", loaded->step,
                              " of ", loaded->total_steps),
                          false});
    if (!loaded->stage.empty()) {
      // The seed of training is no part of what is judged: --seed here draws the items.
      nlohmann::json asked = stage_recipe(recipe, loaded->stage, 0);
      asked.erase("train.seed");
      const auto difference = recipe_difference(loaded->made_by, asked);
      if (difference)
        findings.push_back({"recipe_differs",
                            cat(condition, ": was trained with ", difference->field, " ",
                                difference->made_with, ", the recipe says ", difference->asked),
                            false});
    }
    add(condition, std::move(loaded->projector), loaded->path.string());
    return true;
  }
};

[[noreturn]] void refuse_missing(const std::string& named, const std::vector<Finding>& findings) {
  throw Error({.code = ExitCode::kInput,
               .where = named,
               .what = "no checkpoint here",
               .got = findings.empty() ? "nothing" : findings.back().text,
               .remedy = "name a checkpoint's folder or a run's"});
}

// A condition without a checkpoint is left out and said; the last stage there is becomes the gated
// one when it is that.
Checkpoints load_checkpoints(const RunContext& context, const Side& source, const Side& target,
                             const Recipe& recipe, EvalOptions& options) {
  Checkpoints result;
  if (!context.checkpoint.empty()) {
    // One checkpoint: the judged condition is this one, other stages are not looked for.
    for (const StageFacts& stage : stages())
      if (stage.condition != options.gated) std::erase(options.conditions, stage.condition);
    std::erase(options.conditions, kRidgeControl);
    if (!result.load(options.gated, resolve_path(context.checkpoint), {}, source, target, recipe))
      refuse_missing(context.checkpoint, result.findings);
    if (!wants(options, options.gated)) options.conditions.push_back(options.gated);
    return result;
  }
  if (wants(options, "identity"))
    result.add(
        "identity",
        std::make_unique<IdentityProjector>(source.model->kv_shape(), target.model->kv_shape()),
        {});
  std::vector<std::pair<std::string, std::string>> table = {{kRidgeControl, kRidgeControl}};
  for (const StageFacts& stage : stages()) table.emplace_back(stage.condition, stage.name);
  std::string last;
  for (const auto& [condition, stage] : table) {
    if (!wants(options, condition)) continue;
    if (result.load(condition, context.paths.run, stage, source, target, recipe))
      last = condition;
    else
      std::erase(options.conditions, condition);
  }
  const bool projected = std::any_of(table.begin(), table.end(),
                                     [&](const auto& row) { return row.first == options.gated; });
  if (projected && !result.named.contains(options.gated)) {
    if (last.empty())
      throw Error({.code = ExitCode::kInput,
                   .where = context.paths.run.string(),
                   .what = "no checkpoint to evaluate",
                   .got = "none of a stage that eval.conditions names",
                   .expected = cat("one for ", options.gated),
                   .remedy = "run kvlingua train first, or give --checkpoint DIR"});
    result.findings.push_back(
        {"gate_moved", cat(options.gated, " has no checkpoint: ", last, " is judged in its place"),
         true});
    options.gated = last;
  }
  return result;
}

Checkpoints load_compared(const RunContext& context, const Side& source, const Side& target,
                          const Recipe& recipe, EvalOptions& options) {
  if (context.compare.size() != 2)
    throw Error({.code = ExitCode::kUsage,
                 .where = "--compare",
                 .what = "two checkpoints are needed",
                 .got = cat(context.compare.size())});
  Checkpoints result;
  for (const auto& [name, path] : {std::pair{"A", context.compare[0]}, {"B", context.compare[1]}})
    if (!result.load(name, resolve_path(path), {}, source, target, recipe))
      refuse_missing(path, result.findings);
  for (const StageFacts& stage : stages()) std::erase(options.conditions, stage.condition);
  for (const char* name : {kRidgeControl, "identity"}) std::erase(options.conditions, name);
  options.conditions.insert(options.conditions.end(), {"A", "B"});
  options.gated = "A";
  return result;
}

// The gated stage of every training seed there is: the run's own, then those of seeds/.
void load_replicas(const RunContext& context, const Side& source, const Side& target,
                   const Recipe& recipe, const EvalOptions& options, Checkpoints& checkpoints) {
  std::string stage;
  for (const StageFacts& one : stages())
    if (one.condition == options.gated) stage = one.name;
  for (const auto& folder : seed_folders(context.paths.run)) {
    const std::string name = cat(options.gated, "@", folder.filename().string());
    if (checkpoints.load(name, folder, stage, source, target, recipe))
      checkpoints.replicas.push_back(name);
  }
}

// One hash of the judged projectors, those of other seeds with them.
std::string judged_hash(const Checkpoints& checkpoints, const std::string& gated) {
  std::string all;
  for (const auto& [name, hash] : checkpoints.hash_of)
    if (name == gated || name.starts_with(gated + "@")) all += hash + ";";
  return sha256_hex(all).substr(0, 16);
}

const TrainingRecord* provenance(const Checkpoints& checkpoints, const std::string& condition) {
  for (const TrainingRecord& one : checkpoints.trained)
    if (one.condition == condition) return &one;
  return nullptr;
}

std::vector<const Recipe*> recipes_that_trained(const Checkpoints& checkpoints,
                                                const Recipe& evaluating) {
  std::vector<const Recipe*> recipes{&evaluating};
  for (const TrainingRecord& one : checkpoints.trained)
    if (one.recipe) recipes.push_back(&*one.recipe);
  return recipes;
}

Json trained_json(const Checkpoints& checkpoints) {
  Json json = Json::object();
  for (const TrainingRecord& one : checkpoints.trained) json[one.condition] = one.json;
  return json;
}

FamilyStyle style_of(const Recipe& recipe) {
  if (recipe.eval.style == "nano") return FamilyStyle::kNano;
  if (recipe.eval.style == "english") return FamilyStyle::kEnglish;
  return recipe.data.kind == "synthetic" && recipe.data.synthetic.style == "nano"
             ? FamilyStyle::kNano
             : FamilyStyle::kEnglish;
}

}  // namespace

EvaluateResult evaluate(const Recipe& recipe, const RunContext& context) {
  EvaluateResult result;
  EvalOptions options = recipe.eval;
  if (context.seed) options.seeds = {*context.seed};
  const at::Device device = resolve_device(context.device, context.world.local_rank);
  StageMeter meter(device);
  auto loading = meter.time("load");
  const Side source = load_side(recipe.pair.source, device);
  const bool one_model = recipe.pair.source.name == recipe.pair.target.name &&
                         recipe.pair.source.revision == recipe.pair.target.revision &&
                         recipe.pair.source.dtype == recipe.pair.target.dtype;
  const Side target = one_model ? source : load_side(recipe.pair.target, device);
  const Reader source_reader = reader_of(source, recipe.pair.source),
               target_reader = reader_of(target, recipe.pair.target);

  const bool comparing = !context.compare.empty();
  Checkpoints checkpoints = comparing ? load_compared(context, source, target, recipe, options)
                                      : load_checkpoints(context, source, target, recipe, options);
  if (!comparing) check_lowered_gates(recipe, checkpoints.findings);
  if (context.confirm) load_replicas(context, source, target, recipe, options, checkpoints);
  const std::string judged = judged_hash(checkpoints, options.gated);
  Looks looks(ledger_of(checkpoints.named, options.gated, context.paths.run));
  std::optional<Confirmation> confirmation;
  if (context.confirm)
    confirmation.emplace(plan_confirmation(context, checkpoints.replicas, judged, looks, options,
                                           checkpoints.findings));
  loading.stop();
  auto making = meter.time("probes");
  std::vector<Probe> probes = make_probes(options, options.seeds, style_of(recipe), context.limit);
  leave_out_trained(recipes_that_trained(checkpoints, recipe), probes, checkpoints.findings);
  making.stop(static_cast<double>(probes.size()));
  const TrainingRecord* made = provenance(checkpoints, options.gated);

  EvaluationInput input{
      .source = source_reader,
      .target = target_reader,
      .alignment = alignment_kind_from_name(recipe.pair.alignment),
      .options = options,
      .projectors = checkpoints.named,
      .probes = std::move(probes),
      .seed = static_cast<uint64_t>(options.seeds.front()),
      .folder = comparing         ? context.paths.eval() / "compare"
                : context.confirm ? confirmation->folder
                                  : context.paths.eval(),
      .resume = context.resume && !context.restart,
      .world = context.world,
      .limit = context.limit,
      .fingerprint = cat(
          source.model->fingerprint(), target.model->fingerprint(), source.tokenizer->fingerprint(),
          target.tokenizer->fingerprint(), at::toString(target.model->dtype()), checkpoints.hashes,
          recipe.pair.source.system, recipe.pair.target.system, recipe.pair.source.chat,
          recipe.pair.source.thinking, recipe.pair.target.chat, recipe.pair.target.thinking),
      .findings = checkpoints.findings,
      .replicas = checkpoints.replicas,
      .trained_families = made == nullptr ? std::vector<std::string>{} : made->families,
      .confirm = context.confirm,
      .meter = &meter};
  if (context.dry_run) {
    result.report = {{"items", input.probes.size()},
                     {"conditions", options.conditions},
                     {"answers", input.probes.size() * options.conditions.size()},
                     {"folder", input.folder.string()}};
    return result;
  }

  Evaluation evaluation = run_evaluation(input);
  if (!evaluation.joined) return result;  // the first process judges
  Json report;
  report["pair"] = {{"source", recipe.pair.source.name},
                    {"target", recipe.pair.target.name},
                    {"alignment", recipe.pair.alignment},
                    {"source_fingerprint", source.model->fingerprint()},
                    {"target_fingerprint", target.model->fingerprint()},
                    {"dtype", at::toString(target.model->dtype())},
                    {"device", context.device}};
  const auto gated = checkpoints.named.find(options.gated);
  report["checkpoint"] = gated == checkpoints.named.end() ? Json() : Json(gated->second.checkpoint);
  for (auto& [key, value] : evaluation.report.items()) report[key] = std::move(value);
  report["trained"] = trained_json(checkpoints);
  report["one_model"] = one_model;
  if (evaluation.judged && !comparing)
    report["looks"] = take_look(looks, judged, options, context.confirm, report);
  if (confirmation) report["confirmation"] = confirmation->to_json();
  report["benchmarks"] = Json::array();
  for (const auto& benchmark : options.benchmarks)
    report["benchmarks"].push_back(run_benchmark(benchmark, input));
  report["comparison"] = Json();
  if (comparing) {
    report["comparison"] = {{"a", context.compare[0]},
                            {"b", context.compare[1]},
                            {"families", paired_differences(evaluation.answers, "A", "B",
                                                            options.criteria.confidence)}};
  }
  report["versions"] = {{"kvlingua", KVLINGUA_VERSION}, {"torch", TORCH_VERSION}};
  report["recipe_sha256"] = recipe.recipe_sha256();
  report["run"].update(meter.to_json());
  write_report(report, input.folder);
  if (confirmation) finish(*confirmation);
  log_info(cat("report: ", (input.folder / "report.html").string()));
  result.report = std::move(report);
  result.folder = input.folder;
  // A gate that was named and could not be judged is not met.
  result.judged = (evaluation.judged || evaluation.gate_missing) && !comparing;
  result.gate_met = evaluation.gate_met;
  return result;
}

}  // namespace kvlingua
