#include "eval/judging/judged_checkpoints.h"

#include <algorithm>
#include <optional>

#include "checkpoints/load_projector.h"
#include "checkpoints/provenance.h"
#include "eval/judging/confirmation.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/config/stages.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/identity.h"

namespace kvlingua {

namespace {

namespace fs = std::filesystem;

bool wants(const EvalOptions& options, const std::string& name) {
  return std::find(options.conditions.begin(), options.conditions.end(), name) !=
         options.conditions.end();
}

// What the checkpoint says of itself that the reader must know.
void find_differences(const std::string& condition, const LoadedProjector& loaded,
                      const Recipe& recipe, std::vector<Finding>& findings) {
  if (!loaded.stage_finished)
    findings.push_back({"stage_not_finished",
                        cat(condition, ": stage ", loaded.stage, " is at step ", loaded.step,
                            " of ", loaded.total_steps),
                        false});
  if (loaded.stage.empty()) return;
  // The seed of training is no part of what is judged: --seed here draws the items.
  nlohmann::json asked = stage_recipe(recipe, loaded.stage, 0);
  asked.erase("train.seed");
  const auto difference = recipe_difference(loaded.made_by, asked);
  if (difference)
    findings.push_back({"recipe_differs",
                        cat(condition, ": was trained with ", difference->field, " ",
                            difference->made_with, ", the recipe says ", difference->asked),
                        false});
}

[[noreturn]] void refuse_missing(const std::string& named, const std::vector<Finding>& findings) {
  throw Error({.code = ExitCode::kInput,
               .where = named,
               .what = "no checkpoint here",
               .got = findings.empty() ? "nothing" : findings.back().text,
               .remedy = "name a checkpoint's folder or a run's"});
}

// --checkpoint: the judged condition is this one, other stages are not looked for.
JudgedCheckpoints one_checkpoint(const CheckpointSearch& search, EvalOptions& options) {
  JudgedCheckpoints result;
  const std::string& named = search.context.checkpoint;
  for (const StageFacts& stage : stages())
    if (stage.condition != options.gated) std::erase(options.conditions, stage.condition);
  std::erase(options.conditions, kRidgeControl);
  if (!result.load(options.gated, resolve_path(named), {}, search))
    refuse_missing(named, result.findings);
  if (!wants(options, options.gated)) options.conditions.push_back(options.gated);
  return result;
}

// --compare.
JudgedCheckpoints two_checkpoints(const CheckpointSearch& search, EvalOptions& options) {
  const auto& compare = search.context.compare;
  if (compare.size() != 2)
    throw Error({.code = ExitCode::kUsage,
                 .where = "--compare",
                 .what = "two checkpoints are needed",
                 .got = cat(compare.size())});
  JudgedCheckpoints result;
  for (const auto& [name, path] : {std::pair{"A", compare[0]}, {"B", compare[1]}})
    if (!result.load(name, resolve_path(path), {}, search)) refuse_missing(path, result.findings);
  for (const StageFacts& stage : stages()) std::erase(options.conditions, stage.condition);
  for (const char* name : {kRidgeControl, "identity"}) std::erase(options.conditions, name);
  options.conditions.insert(options.conditions.end(), {"A", "B"});
  options.gated = "A";
  return result;
}

// The gate goes to `last`, the last stage that is there.
void move_gate(const RunContext& context, const std::string& last, EvalOptions& options,
               std::vector<Finding>& findings) {
  if (last.empty())
    throw Error({.code = ExitCode::kInput,
                 .where = context.paths.run.string(),
                 .what = "no checkpoint to evaluate",
                 .got = "none of a stage that eval.conditions names",
                 .expected = cat("one for ", options.gated),
                 .remedy = "run kvlingua train first, or give --checkpoint DIR"});
  findings.push_back({"gate_moved",
                      cat(options.gated, " has no checkpoint: ", last, " is judged in its place"),
                      true});
  options.gated = last;
}

JudgedCheckpoints checkpoints_of_run(const CheckpointSearch& search, EvalOptions& options) {
  JudgedCheckpoints result;
  if (wants(options, "identity"))
    result.add(
        "identity",
        std::make_unique<IdentityProjector>(search.source.kv_shape(), search.target.kv_shape()),
        {});
  std::vector<std::pair<std::string, std::string>> table = {{kRidgeControl, kRidgeControl}};
  for (const StageFacts& stage : stages()) table.emplace_back(stage.condition, stage.name);
  std::string last;
  for (const auto& [condition, stage] : table) {
    if (!wants(options, condition)) continue;
    if (result.load(condition, search.context.paths.run, stage, search))
      last = condition;
    else
      std::erase(options.conditions, condition);
  }
  const bool projected = std::any_of(table.begin(), table.end(),
                                     [&](const auto& row) { return row.first == options.gated; });
  if (projected && !result.named.contains(options.gated))
    move_gate(search.context, last, options, result.findings);
  return result;
}

// Whether a condition is the gated one, or that by another training seed.
bool is_judged(const std::string& condition, const std::string& gated) {
  return condition == gated || condition.starts_with(gated + "@");
}

constexpr const char* kSameWeights = "has the very weights of another seed";

// The recipe of a training without its seed, empty where it is not known; the seed, null then.
std::pair<nlohmann::json, nlohmann::json> recipe_and_seed(const nlohmann::json& made_by) {
  nlohmann::json recipe = nlohmann::json::object(), seed;
  if (made_by.is_object() && made_by.contains("recipe") && made_by["recipe"].is_object()) {
    recipe = made_by["recipe"];
    seed = recipe.value("train.seed", nlohmann::json());
    recipe.erase("train.seed");
  }
  return {recipe, seed};
}

std::string pairs_of(const nlohmann::json& made_by) {
  return made_by.is_object() && made_by.contains("pairs") && made_by["pairs"].is_string()
             ? made_by["pairs"].get<std::string>()
             : std::string();
}

// Why a checkpoint is no further seed of the judged training; empty where it is one.
std::string not_counted(const JudgedCheckpoints& checkpoints, const std::string& gated,
                        const LoadedProjector& loaded) {
  const TrainingRecord* judged = checkpoints.record(gated);
  if (judged == nullptr) return "is a seed of nothing that is judged";
  const nlohmann::json seed = recipe_and_seed(loaded.made_by).second;
  for (const TrainingRecord& one : checkpoints.trained) {
    if (is_judged(one.condition(), gated) && !seed.is_null() &&
        recipe_and_seed(one.made_by).second == seed)
      return cat("was trained by the seed of ", one.condition(), " (", seed.dump(), ")");
  }
  const auto difference = recipe_difference(loaded.made_by, recipe_and_seed(judged->made_by).first);
  if (difference)
    return cat("was trained with ", difference->field, " ", difference->made_with, ", ", gated,
               " with ", difference->asked);
  if (pairs_of(loaded.made_by) != pairs_of(judged->made_by))
    return cat("was trained on other pairs than ", gated);
  const std::string hash = tensors_sha256(*loaded.projector);
  for (const auto& [name, other] : checkpoints.hash_of)
    if (other == hash && is_judged(name, gated)) return kSameWeights;
  return {};
}

}  // namespace

void JudgedCheckpoints::add(const std::string& condition, std::unique_ptr<Projector> projector,
                            const std::string& where) {
  const std::string hash = tensors_sha256(*projector);
  hash_of[condition] = hash;
  hashes += condition + ":" + hash + ";";
  named[condition] = {projector.get(), where};
  owned.push_back(std::move(projector));
}

std::optional<LoadedProjector> JudgedCheckpoints::find(const std::string& condition,
                                                       const fs::path& path,
                                                       const std::string& stage,
                                                       const CheckpointSearch& search) {
  std::optional<LoadedProjector> loaded;
  try {
    loaded.emplace(load_projector(path, search.target.device(), at::kFloat, stage));
  } catch (const Error& error) {
    if (error.code() != ExitCode::kInput) throw;
    findings.push_back({"no_checkpoint", cat(condition, ": ", error.what()), false});
    return std::nullopt;
  }
  loaded->check_models(search.source, search.target);
  for (const auto& skipped : loaded->skipped)
    findings.push_back({"damaged_checkpoint", skipped, false});
  return loaded;
}

void JudgedCheckpoints::take(const std::string& condition, LoadedProjector loaded,
                             const CheckpointSearch& search) {
  trained.push_back(training_record_of(condition, loaded, search.recipe, findings));
  find_differences(condition, loaded, search.recipe, findings);
  add(condition, std::move(loaded.projector), loaded.path.string());
}

bool JudgedCheckpoints::load(const std::string& condition, const fs::path& path,
                             const std::string& stage, const CheckpointSearch& search) {
  auto loaded = find(condition, path, stage, search);
  if (loaded) take(condition, *std::move(loaded), search);
  return loaded.has_value();
}

std::vector<std::string> JudgedCheckpoints::judged_hashes(const std::string& gated) const {
  std::vector<std::string> hashes;
  for (const auto& [name, hash] : hash_of)
    if (is_judged(name, gated)) hashes.push_back(hash.substr(0, 16));
  return hashes;
}

std::string JudgedCheckpoints::judged_hash(const std::string& gated) const {
  std::string all;
  for (const auto& [name, hash] : hash_of)
    if (is_judged(name, gated)) all += hash + ";";
  return sha256_hex(all).substr(0, 16);
}

const TrainingRecord* JudgedCheckpoints::record(const std::string& condition) const {
  for (const TrainingRecord& one : trained)
    if (one.condition() == condition) return &one;
  return nullptr;
}

std::vector<const Recipe*> JudgedCheckpoints::recipes_that_trained(const Recipe& evaluating) const {
  std::vector<const Recipe*> recipes{&evaluating};
  for (const TrainingRecord& one : trained)
    if (one.recipe) recipes.push_back(&*one.recipe);
  return recipes;
}

JudgedCheckpoints judged_checkpoints(const CheckpointSearch& search, EvalOptions& options) {
  if (!search.context.compare.empty()) return two_checkpoints(search, options);
  JudgedCheckpoints result = search.context.checkpoint.empty() ? checkpoints_of_run(search, options)
                                                               : one_checkpoint(search, options);
  check_lowered_gates(search.recipe, result.findings);
  return result;
}

void load_replicas(const CheckpointSearch& search, const EvalOptions& options,
                   JudgedCheckpoints& checkpoints) {
  const StageFacts* judged = stage_of_condition(options.gated);
  const std::string stage = judged != nullptr ? judged->name : "";
  for (const auto& folder : seed_folders(search.context.paths.run)) {
    const std::string name = cat(options.gated, "@", folder.filename().string());
    auto loaded = checkpoints.find(name, folder, stage, search);
    if (!loaded) continue;
    const std::string why_not = not_counted(checkpoints, options.gated, *loaded);
    if (why_not.empty()) {
      checkpoints.take(name, *std::move(loaded), search);
      checkpoints.replicas.push_back(name);
    } else if (why_not == kSameWeights && loaded->stage == kRidgeStage) {
      ++checkpoints.seeds_of_same_weights;
      checkpoints.findings.push_back(
          {"seed_changes_nothing",
           cat(name, ": ", why_not, ", as a closed form has by every seed: judged once"), false});
    } else {
      checkpoints.findings.push_back({kSeedNotCounted, cat(name, ": ", why_not), false});
    }
  }
}

}  // namespace kvlingua
