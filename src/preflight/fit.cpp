#include "kvlingua/preflight/fit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/config/stages.h"
#include "kvlingua/model/weight_plan.h"
#include "kvlingua/preflight/plan.h"

namespace kvlingua {
namespace {

// A recipe, and what it was changed by.
class Trial {
 public:
  Trial(const Recipe& recipe, const InputsOf& inputs) : recipe_(recipe), inputs_(inputs) { plan(); }

  const Recipe& recipe() const { return recipe_; }
  // Of one key the last.
  const std::vector<std::string>& changes() const { return changes_; }
  bool fits() const { return plan_.fits_memory; }
  const StagePlan* misfit(std::string_view name) const {
    const auto found = std::ranges::find_if(
        plan_.stages, [&](const StagePlan& s) { return !s.fits && s.name == name; });
    return found == plan_.stages.end() ? nullptr : &*found;
  }
  const StagePlan& largest() const {
    return *std::ranges::max_element(plan_.stages, {}, &StagePlan::memory);
  }

  void set(const std::vector<std::string>& changes) {
    if (changes.empty()) return;
    recipe_ = Recipe::from_yaml(recipe_.to_yaml(), recipe_.file.string(), changes);
    for (const std::string& change : changes) {
      const std::string key = change.substr(0, change.find('=') + 1);
      std::erase_if(changes_, [&](const std::string& old) { return old.starts_with(key); });
      changes_.push_back(change);
    }
    plan();
  }

  // Each stage's largest batch that is a power of two, or one, with as many more accumulated.
  void shrink_batches() {
    std::vector<std::string> changes;
    for (const StagePlan& stage : plan_.stages) {
      if (stage.fits || stage.batch_key.empty() || stage.batch <= 1) continue;
      const auto most = static_cast<uint64_t>(std::max<int64_t>(1, stage.largest_batch));
      const auto batch = static_cast<int64_t>(std::bit_floor(most));
      changes.push_back(cat(stage.batch_key, "=", batch));
      // Of a stage of training: the items of its step stay as many.
      if (stage.step_size > 0)
        changes.push_back(cat("train.", stage.name,
                              ".batch.accumulation=", (stage.step_size + batch - 1) / batch));
    }
    set(changes);
  }

 private:
  void plan() { plan_ = make_plan(inputs_(recipe_)); }

  Recipe recipe_;
  const InputsOf& inputs_;
  std::vector<std::string> changes_;
  Plan plan_;
};

// Of two models or of one: how their weights are held, from the most exact to the smallest.
constexpr std::pair<const char*, const char*> kHeld[] = {
    {"int8", ""}, {"int8", "int8"}, {"nf4", "int8"}, {"nf4", "nf4"}};

std::vector<std::vector<std::string>> weight_changes(const Recipe& recipe) {
  const auto key = [](const char* role, const std::string& value) {
    return cat("pair.", role, ".weights=", value);
  };
  std::vector<std::vector<std::string>> all;
  const bool one = recipe.pair.source.name == recipe.pair.target.name;
  for (const auto& [source, target] : kHeld) {
    if (one && std::string_view(source) != target) continue;
    all.push_back({key("source", source)});
    if (*target != '\0') all.back().push_back(key("target", target));
  }
  if (one) return all;
  // The source's layers come one after the other; of the target only while nothing is learnt.
  for (const auto& [source, target] : kHeld) {
    all.push_back({"pair.source.layer_streaming=true", key("source", source)});
    if (*target != '\0') all.back().push_back(key("target", target));
  }
  return all;
}

}  // namespace

std::optional<Fit> find_fit(const Recipe& recipe, const InputsOf& inputs) {
  Trial trial(recipe, inputs);
  trial.shrink_batches();
  std::vector<std::string> besides;  // all but batches, which other weights leave more room for
  const auto also = [&](const std::string& change) {
    besides.push_back(change);
    trial.set({change});
  };
  if (trial.misfit(kDistillationStage) != nullptr &&
      recipe.train.distillation.checkpoint_activations == "false")
    also("train.distillation.checkpoint_activations=true");
  if (trial.misfit("generate") != nullptr && !recipe.data.sequential) also("data.sequential=true");
  const int64_t asked = recipe.projector.ridge.candidate_layers;
  int64_t candidates = asked > 0 ? asked : inputs(recipe).source.layers;
  while (candidates > 1 && trial.misfit(kRidgeStage) != nullptr)
    also(cat("projector.ridge.candidate_layers=", candidates = candidates * 3 / 4));

  std::vector<std::vector<std::string>> weights = weight_changes(recipe);
  weights.insert(weights.begin(), std::vector<std::string>{});
  for (const std::vector<std::string>& held : weights) {
    Trial last(recipe, inputs);
    last.set(besides);
    last.set(held);
    last.shrink_batches();
    if (last.fits()) return Fit{last.changes(), last.largest().memory, last.largest().name};
  }
  return std::nullopt;
}

std::string say_weights(const Recipe& recipe, const InputsOf& inputs, const StagePlan& stage) {
  if (stage.weights <= 0) return {};
  const bool one_at_a_time = stage.name == "generate";
  const PlanInputs now = inputs(recipe);
  std::vector<HeldWeights> choices;
  for (const char* format : {"dense", "int8", "nf4"}) {
    Recipe held = recipe;
    held.pair.source.weights = held.pair.target.weights = format;
    const PlanInputs in = inputs(held);
    choices.push_back({.name = format, .bytes = std::llround(resident_weights(in, one_at_a_time))});
  }
  return cat("weights: ", say_what_fits(choices, stage.memory - stage.weights, now.machine.memory));
}

}  // namespace kvlingua
