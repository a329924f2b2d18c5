#include "eval/judging/training_record.h"

#include <algorithm>
#include <memory>
#include <set>

#include "datasets/corpus/corpus.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/stages.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

template <class T>
std::string yaml_of(T options) {
  return options_to_yaml(visit_of(options));
}

// What training depends on besides its name.
std::vector<std::pair<std::string, std::string>> training_sections(const Recipe& recipe) {
  Recipe plain = recipe;
  plain.train.log_every = 10;
  plain.train.tensorboard = true;
  plain.train.seed = 0;
  plain.pair.device.clear();
  return {{"pair", yaml_of(plain.pair)},
          {"data", yaml_of(plain.data)},
          {"projector", yaml_of(plain.projector)},
          {"train", yaml_of(plain.train)}};
}

// "pair, train": sections that training depends on and that differ; empty when none does.
std::string differing_sections(const Recipe& evaluating, const Recipe& trained) {
  std::string differing;
  const auto mine = training_sections(evaluating), theirs = training_sections(trained);
  for (size_t i = 0; i < mine.size(); ++i)
    if (mine[i].second != theirs[i].second)
      differing += (differing.empty() ? "" : ", ") + mine[i].first;
  return differing;
}

std::string losses_of(const Recipe& recipe, const std::string& name) {
  const StageFacts* stage = find_stage(name);
  return (stage != nullptr ? stage : find_stage(kRidgeStage))->losses(recipe.train);
}

// Throws Error when the corpus is not here.
std::vector<Overlap> overlaps_with_corpus(const DataOptions& data,
                                          const std::vector<Probe>& probes) {
  const std::unique_ptr<Corpus> corpus = open_corpus(data);
  const int64_t size =
      data.max_samples > 0 ? std::min(corpus->size(), data.max_samples) : corpus->size();
  int64_t next = 0;
  return overlaps(probes, [&](std::string& text) {
    while (next < size) {
      try {
        text = corpus->read(next++).text;
        return true;
      } catch (const Error&) {
        // A malformed record trained nothing.
      }
    }
    return false;
  });
}

// Built-in items can be spared; own ones are for their owner to take out.
void refuse_own_probes(const std::vector<Overlap>& found, const std::vector<Probe>& probes) {
  const auto& builtin = family_names();
  for (const Overlap& overlap : found) {
    const Probe& probe = probes[overlap.probe];
    if (std::find(builtin.begin(), builtin.end(), probe.family) != builtin.end()) continue;
    throw Error(
        {.code = ExitCode::kInput,
         .where = cat("probe ", printable(probe.id)),
         .what = "shared with training",
         .got =
             cat("its ", overlap.what, overlap.what == "context" ? " stands" : " stand",
                 " in training document ", overlap.document, "; ", found.size(), " probes in all"),
         .expected = "values that training never saw",
         .remedy = "take these probes out of their file, or the documents out of the corpus"});
  }
}

}  // namespace

TrainingRecord training_record_of(const std::string& condition, const LoadedProjector& loaded,
                                  const Recipe& evaluating, std::vector<Finding>& findings) {
  TrainingRecord result;
  result.made_by = loaded.made_by;
  TrainedBy& said = result.said;
  said = {.condition = condition,
          .checkpoint = loaded.path.string(),
          .stage = loaded.stage,
          .step = loaded.global_step,
          .recipe_sha256 = sha256_hex(loaded.recipe_yaml),
          .finished = loaded.stage_finished,
          .rows_seen = loaded.tokens};
  try {
    if (!loaded.recipe_yaml.empty())
      result.recipe = Recipe::from_yaml(loaded.recipe_yaml, (loaded.path / "recipe.yaml").string());
  } catch (const Error& error) {
    findings.push_back(
        {"training_not_known",
         cat(condition, ": the recipe that trained it cannot be read: ", error.what()), false});
  }
  if (!result.recipe) return result;
  const Recipe& trained = *result.recipe;
  const std::string differing = differing_sections(evaluating, trained);
  said.settings = {.recipe = trained.name,
                   .losses = losses_of(trained, loaded.stage),
                   .seed = trained.train.seed,
                   .data = trained.data.kind,
                   .families = loaded.stage == kDistillationStage
                                   ? trained.train.distillation.families
                                   : std::vector<std::string>{},
                   .same_training = differing.empty()};
  if (!differing.empty())
    findings.push_back({"trained_by_another_recipe",
                        cat(condition, ": trained by recipe ", trained.name, " (sha256 ",
                            said.recipe_sha256.substr(0, 16),
                            "), which differs from the evaluating one in: ", differing),
                        false});
  return result;
}

void leave_out_trained(const std::vector<const Recipe*>& recipes, std::vector<Probe>& probes,
                       std::vector<Finding>& findings) {
  std::vector<Overlap> found;
  std::set<std::string> searched;
  for (const Recipe* recipe : recipes) {
    if (!searched.insert(yaml_of(recipe->data)).second) continue;
    try {
      for (Overlap& overlap : overlaps_with_corpus(recipe->data, probes))
        found.push_back(std::move(overlap));
    } catch (const Error& error) {
      findings.push_back(
          {"training_not_checked",
           cat("a training corpus is not here, overlap with it was not looked for: ", error.what()),
           false});
    }
  }
  if (found.empty()) return;
  refuse_own_probes(found, probes);
  std::vector<bool> out(probes.size(), false);
  for (const Overlap& overlap : found) out[overlap.probe] = true;
  std::vector<Probe> kept;
  for (size_t i = 0; i < probes.size(); ++i)
    if (!out[i]) kept.push_back(std::move(probes[i]));
  findings.push_back(
      {"shared_with_training",
       cat(probes.size() - kept.size(), " items stand in the training corpus: left out"), false});
  probes = std::move(kept);
}

void check_lowered_gates(const Recipe& recipe, std::vector<Finding>& findings) {
  CriteriaOptions own;  // of the recipe's file, without what the command line says
  if (!recipe.file.empty()) try {
      own = Recipe::load(recipe.file).eval.criteria;
    } catch (const Error&) {
      own = {};  // a recipe that is complete only with --set: the defaults hold
    }
  const CriteriaOptions usual, asked = recipe.eval.criteria;
  const auto check = [&](const char* name, double CriteriaOptions::*gate, bool higher_is_harder) {
    const double least =
        higher_is_harder ? std::max(own.*gate, usual.*gate) : std::min(own.*gate, usual.*gate);
    const bool lowered = higher_is_harder ? asked.*gate < least : asked.*gate > least;
    if (lowered)
      findings.push_back({"gate_lowered",
                          cat(name, " is to be judged against ", asked.*gate,
                              ", easier than the recipe's or the default gate (", least,
                              "): read the interval, it is printed"),
                          true});
  };
  check("identity", &CriteriaOptions::identity, true);
  check("parametric_knowledge", &CriteriaOptions::parametric_knowledge, true);
  check("needle", &CriteriaOptions::needle, true);
  check("fused_gain", &CriteriaOptions::fused_gain, true);
  check("confidence", &CriteriaOptions::confidence, true);
  check("stalling", &CriteriaOptions::stalling, false);
}

}  // namespace kvlingua
