#include "trainers/train.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "checkpoints/provenance.h"
#include "datasets/pairs/pair_manifest.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "trainers/engine/train_run.h"

namespace kvlingua {

using OrderedJson = nlohmann::ordered_json;

OrderedJson TrainResult::to_json() const { return {{"stages", stages}}; }

std::string TrainResult::summary() const {
  std::string text;
  const auto number = [](const OrderedJson& j, const char* name) {
    char out[32] = "-";
    if (j.contains(name) && j[name].is_number())
      std::snprintf(out, sizeof out, "%.3f", j[name].get<double>());
    return std::string(out);
  };
  for (const OrderedJson& s : stages) {
    const OrderedJson& v = s.at("validation");
    std::string attention = number(v, "attention_output_cosine");
    if (attention == "-") attention = "not measured (data.queries: false)";
    text += cat(s.at("stage").get<std::string>(), ": ", s.at("steps").get<int64_t>(), " steps in ",
                duration_text(s.at("seconds").get<double>()),
                v.contains("cross_entropy")
                    ? cat(", cross-entropy ", number(v, "cross_entropy"))
                    : cat(", R2 K ", number(v, "key_r2"), " V ", number(v, "value_r2"),
                          ", attention cosine ", attention),
                ", ", s.at("checkpoint").get<std::string>(), "\n");
  }
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

}  // namespace

TrainResult train(const Recipe& recipe, const RunContext& context) {
  warn_of_other_pairs(recipe, context);
  return TrainRun(recipe, context).execute();
}

}  // namespace kvlingua
