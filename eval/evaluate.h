// Stage 4: injected cache -> numbers -> report. One function, from a recipe to report.json,
// report.md and report.html.
//
// Loads both models and the run's checkpoints, makes the probes, leaves out what training has seen,
// runs every condition (evaluation.h), and writes the reports under context.paths.eval(). With
// context.compare two checkpoints stand side by side.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/report/report.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua {

// What would be asked.
struct EvaluationPlan {
  int64_t items = 0;
  std::vector<std::string> conditions;
  std::filesystem::path folder;
  nlohmann::ordered_json to_json() const;
};

struct EvaluateResult {
  std::optional<EvaluationPlan> plan;  // with --dry-run, and then nothing else
  std::optional<Report> report;        // none of a process but the first
  std::filesystem::path folder;        // of the reports; empty when nothing was written
  bool judged = false;                 // there was a gated condition
  bool gate_met = false;
  nlohmann::ordered_json to_json() const;  // the plan, or what report.json holds
  // kGate when a gate was judged and not met, else kOk.
  ExitCode exit_code() const { return judged && !gate_met ? ExitCode::kGate : ExitCode::kOk; }
};

// Throws Error: kInput (models, probes, checkpoints of another pair, contexts too long), kUsage
// (conditions without a checkpoint), kTerminated and kInterrupted when asked to stop (what was
// generated is kept).
EvaluateResult evaluate(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua
