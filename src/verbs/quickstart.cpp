// quickstart: preflight, generate, train, evaluate, sweep, identity; what is done already is
// skipped.
#include <algorithm>
#include <memory>
#include <string_view>

#include "identity.h"
#include "kvlingua/cache/process_group.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/preflight/preflight.h"
#include "quickstart.h"
#include "stages.h"
#include "sweep.h"
#include "verbs.h"

namespace kvlingua::verbs {

namespace {

// The plan of the run, and whether that is all that was asked for. Throws where it cannot run.
Preflight planned(const QuickstartVerb& verb, const CommandLine& command, const Recipe& recipe,
                  const RunContext& context) {
  Preflight plan = run_preflight(recipe, context);
  const bool asked = !verb.parts.empty() && verb.wanted("preflight");
  // What a rehearsal times are pairs, training and evaluation.
  const bool worth_it = asked || verb.wanted("train") || verb.wanted("validate");
  if (!verb.options.dry_run && worth_it)
    rehearse(plan, context, asked ? "" : context.paths.run / "rehearsal.json");
  // On stdout when it is what was asked for, else before the work.
  if (!command.json_on_stdout()) write_stdout(to_text(plan) + "\n");
  const bool ends_here = !plan.can_run() || verb.options.dry_run;
  if (ends_here && !command.json.empty())
    write_json(command.json, Json{{"preflight", to_json(plan)}});
  if (!plan.can_run()) throw cannot_run(plan);
  return plan;
}

}  // namespace

bool QuickstartVerb::wanted(std::string_view part) const {
  return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
}

// Everything in one go. Each stage finds what it has done already and goes on from there.
int QuickstartVerb::run(const CommandLine& command) const {
  using NamedStage = std::pair<const char*, Stage>;
  const Recipe recipe = load_recipe(command);
  RunContext context = context_of(command, recipe);
  options.apply(context);
  context.rehearsal = rehearsal;
  context.limit = 0;  // --limit is for the evaluation: pairs and training are always whole
  Json results = Json::object();
  ExitCode code = ExitCode::kOk;
  if (rehearsal == 0) {
    results["preflight"] = to_json(planned(*this, command, recipe, context));
    if (options.dry_run) return 0;
  }
  // Of several processes none begins a stage before all have ended the one before.
  std::unique_ptr<ProcessGroup> others;
  if (!context.world.alone())
    others = ProcessGroup::join({.world = context.world, .folder = context.paths.run});
  if (wanted("train")) {
    for (const auto& [name, stage] :
         {NamedStage("generate", generate_stage), NamedStage("train", train_stage)}) {
      const StageOutcome outcome = stage(recipe, context);
      if (others) others->wait();
      results[name] = outcome.json;
      if (!command.json_on_stdout()) write_stdout(outcome.text);
    }
  }
  if (wanted("validate")) {
    context.limit = options.limit;
    const StageOutcome outcome = evaluate_stage(recipe, context);
    results["evaluate"] = outcome.json;
    code = outcome.code;
    if (!command.json_on_stdout()) {
      write_stdout(outcome.text +
                   "next, on a machine with a GPU: scripts/phase2b_quickstart.sh --recipe "
                   "recipe/phase2b/qwen3-0.6b_qwen2.5-0.5b.yaml\n");
    }
  }
  // A rehearsal times the stages of training; these two are measured by themselves.
  for (const auto& [name, stage] :
       {NamedStage("sweep", sweep_stage), NamedStage("identity", identity_stage)}) {
    if (!wanted(name) || rehearsal > 0 || !context.world.is_main()) continue;
    const StageOutcome outcome = stage(recipe, context);
    results[name] = outcome.json;
    // A gate that was not met is news; that a part failed is worse news.
    if (outcome.code != ExitCode::kOk) code = outcome.code;
    if (!command.json_on_stdout()) write_stdout(outcome.text);
  }
  if (!command.json.empty()) write_json(command.json, results);
  return static_cast<int>(code);
}

}  // namespace kvlingua::verbs
