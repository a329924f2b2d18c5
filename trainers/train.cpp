#include "trainers/train.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "checkpoints/provenance.h"
#include "checkpoints/store.h"
#include "datasets/pairs/pair_manifest.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "trainers/engine/train_run.h"

namespace kvlingua {
namespace {

std::string three_digits(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%.3f", value);
  return out;
}

std::string reached(const ValidationNumbers& v) {
  if (v.cross_entropy) return "cross-entropy " + three_digits(*v.cross_entropy);
  if (!v.scores) return "R2 K - V -, attention cosine not measured";
  const auto attention = v.scores->attention_output_cosine;
  return cat("R2 K ", three_digits(v.scores->key_r2), " V ", three_digits(v.scores->value_r2),
             ", attention cosine ",
             attention ? three_digits(*attention) : "not measured (data.queries: false)");
}

}  // namespace

nlohmann::ordered_json TrainResult::to_json() const {
  if (dry_run) return {{"stages", table.to_json()}};
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const StageResult& stage : stages) list.push_back(stage.to_json());
  return {{"stages", std::move(list)}};
}

std::string TrainResult::summary() const {
  std::string text;
  for (const StageResult& stage : stages)
    text += cat(stage.stage, ": ", stage.steps, " steps in ", duration_text(stage.seconds), ", ",
                reached(stage.validation), ", ", stage.checkpoint, "\n");
  return text;
}

namespace {

// Pairs are trained on as they are; that they were made otherwise than the recipe says is said.
void warn_of_other_pairs(const Recipe& recipe, const RunContext& context) {
  const auto& order = recipe.train.stages;
  if (context.stage == kC2cStage || std::find(order.begin(), order.end(), kC2cStage) != order.end())
    return;  // it reads conversations
  const auto pairs = load_pair_manifest(context.paths.dataset);
  if (!pairs) return;
  const auto& plan = pairs->info.plan;
  const auto seed = plan.is_object() ? plan.find("seed") : plan.end();
  const bool known = seed != plan.end() && seed->is_number_integer();
  const auto difference = data_difference(
      pairs->info.recipe_yaml, recipe, known ? std::optional(seed->get<int64_t>()) : std::nullopt);
  if (!difference) return;
  log_warning(cat(context.paths.dataset.string(), " was made with ", difference->field, " ",
                  difference->made_with, ", the recipe says ", difference->asked,
                  ": training takes the pairs as they are; generate --restart makes them anew"));
}

// One stage alone begins with what those before it made, and with an untrained map without them.
void warn_of_missing_stages(const Recipe& recipe, const RunContext& context) {
  const auto& order = recipe.train.stages;
  const auto mine = std::find(order.begin(), order.end(), context.stage);
  if (mine == order.begin() || mine == order.end() || !recipe.train.start_from.empty()) return;
  if (!context.checkpoint.empty() || !list_checkpoints(context.paths.run).empty()) return;
  log_warning(cat(context.stage, " begins with an untrained map: ", *(mine - 1), " has not run in ",
                  context.paths.run.string(),
                  "; kvlingua train without --stage runs the stages in order"));
}

}  // namespace

TrainResult train(const Recipe& recipe, const RunContext& context) {
  warn_of_other_pairs(recipe, context);
  warn_of_missing_stages(recipe, context);
  return TrainRun(recipe, context).execute();
}

}  // namespace kvlingua
