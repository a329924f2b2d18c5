#include "stages.h"

#include <cstdio>

#include "datasets/generate.h"
#include "eval/evaluate.h"
#include "evaluate.h"
#include "generate.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/config/recipe_verbs.h"
#include "train.h"
#include "trainers/train.h"

namespace kvlingua::verbs {

namespace {

std::string dry_run_text(const Recipe& recipe, const RunContext& context, const std::string& plan) {
  return with_seed(recipe, context.seed).to_yaml() + "\n" + plan;
}

std::string plan_text(const EvaluationPlan& plan) {
  std::string conditions;
  for (const auto& name : plan.conditions) conditions += (conditions.empty() ? "" : ", ") + name;
  const auto count = static_cast<int64_t>(plan.conditions.size());
  return cat("evaluate: ", plan.items, " items under ", count, " conditions (", conditions,
             "): ", plan.items * count, " answers into ", plan.folder.string(), "\n");
}

// A verdict of each criterion with the numbers it stands on, and why there is none where it was
// withheld.
std::string verdict_text(const Report& report) {
  std::string text;
  for (const CriterionResult& one : report.criteria) {
    char numbers[96];
    std::snprintf(numbers, sizeof numbers, "%.3f [%.3f, %.3f] against %.3g, ", one.statistic,
                  one.low, one.high, one.threshold);
    text +=
        cat(one.name, ": ",
            !report.confirmatory && one.verdict == Verdict::kPass ? "met" : to_string(one.verdict),
            report.confirmatory ? " (confirmatory)" : " (exploratory)", ": ",
            one.n == 0 ? "" : numbers, one.n, " items\n");
  }
  for (const Finding& finding : report.findings)
    if (finding.withholds) text += cat("withheld: ", finding.text, "\n");
  return text + report.verdict_line + "\n";
}

StageOutcome generate_by(const Recipe& recipe, const RunContext& context, int64_t writers) {
  const GenerateResult result = kvlingua::generate(recipe, context, writers);
  if (context.dry_run) return {dry_run_text(recipe, context, {}), result.to_json()};
  return {
      cat(result.directory.string(), ": ", result.samples, " samples, ", result.tokens, " tokens, ",
          bytes_text(static_cast<double>(result.bytes)), " in ", result.shards, " shards\n"),
      result.to_json()};
}

int say(const CommandLine& command, const StageOutcome& outcome) {
  put_result(command, outcome.text, outcome.json);
  return static_cast<int>(outcome.code);
}

int run_stage(const CommandLine& command, const Recipe& recipe, const RunContext& context,
              Stage stage) {
  const StageOutcome outcome = stage(recipe, context);
  // Processes that train or evaluate together have one result.
  const bool together = stage == train_stage && !context.world.is_main();
  if (!together && (!outcome.text.empty() || !outcome.json.is_null()))
    put_result(command, outcome.text, outcome.json);
  return static_cast<int>(outcome.code);
}

}  // namespace

StageOutcome generate_stage(const Recipe& recipe, const RunContext& context) {
  return generate_by(recipe, context, 0);
}

// The same run by seeds one apart, in seeds/<seed> of the run's folder: what evaluate --confirm
// judges together.
StageOutcome train_more_seeds(const Recipe& recipe, const RunContext& context, StageOutcome first) {
  first.json = {{"seeds", Json::array({std::move(first.json)})}};
  for (int64_t k = 1; k < context.seeds; ++k) {
    Recipe other = recipe;
    other.train.seed = context.seed_or(recipe.train.seed) + k;
    RunContext there = context;
    there.seeds = 1;
    there.seed = other.train.seed;
    there.paths.run = context.paths.run / "seeds" / std::to_string(other.train.seed);
    StageOutcome one = train_stage(other, there);
    first.text += cat("seed ", other.train.seed, "\n", one.text);
    first.json["seeds"].push_back(std::move(one.json));
  }
  return first;
}

// The recipe that a run keeps names the seed that it was trained by.
StageOutcome train_stage(const Recipe& named, const RunContext& context) {
  Recipe recipe = named;
  recipe.train.seed = context.seed_or(recipe.train.seed);
  if (context.seeds > 1) {
    RunContext one = context;
    one.seeds = 1;
    return train_more_seeds(recipe, context, train_stage(recipe, one));
  }
  const TrainResult result = kvlingua::train(recipe, context);
  return {context.dry_run ? dry_run_text(recipe, context, result.table.text()) : result.summary(),
          result.to_json()};
}

StageOutcome evaluate_stage(const Recipe& recipe, const RunContext& context) {
  const EvaluateResult result = kvlingua::evaluate(recipe, context);
  if (result.plan && context.world.is_main())
    return {dry_run_text(recipe, context, plan_text(*result.plan)), result.to_json()};
  std::string text;
  if (result.judged && result.report) text += verdict_text(*result.report);
  if (!result.folder.empty())
    text += cat("report: ", (result.folder / "report.html").string(), "\n");
  return {text, result.to_json(), result.exit_code()};
}

int GenerateVerb::run(const CommandLine& command) const {
  Recipe recipe = load_recipe(command);
  if (layer_streaming)
    recipe.pair.source.layer_streaming = recipe.pair.target.layer_streaming = true;
  RunContext context = context_of(command, recipe);
  options.apply(context);
  context.skip_bad = skip_bad;
  return say(command, generate_by(recipe, context, writers));
}

int TrainVerb::run(const CommandLine& command) const {
  const Recipe recipe = load_recipe(command);
  RunContext context = context_of(command, recipe);
  options.apply(context);
  context.stage = stage;
  context.checkpoint = checkpoint;
  context.seeds = seeds;
  return run_stage(command, recipe, context, train_stage);
}

int EvaluateVerb::run(const CommandLine& command) const {
  const Recipe recipe = load_recipe(command);
  RunContext context = context_of(command, recipe);
  options.apply(context);
  context.checkpoint = checkpoint;
  context.compare = compare;
  context.confirm = confirm;
  return run_stage(command, recipe, context, evaluate_stage);
}

}  // namespace kvlingua::verbs
