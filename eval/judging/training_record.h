// TrainingRecord: what trained a checkpoint, in the checkpoint's own words,
// and what that training saw.
//
// Every checkpoint keeps the recipe that made it. That recipe is read here, whatever recipe
// evaluates: its losses, families and seeds stand in the report, its corpus is searched for the
// items, and where it is another than the evaluating one the report says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoints/load_projector.h"
#include "eval/judging/guards.h"
#include "eval/report/report.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {

struct TrainingRecord {
  TrainedBy said;                // as the report prints it
  std::optional<Recipe> recipe;  // none: it could not be read
  nlohmann::json made_by;        // Provenance::to_json(); null: not known
  const std::string& condition() const { return said.condition; }
};

// Adds findings on a recipe that differs from `evaluating`.
TrainingRecord training_record_of(const std::string& condition, const LoadedProjector& loaded,
                                  const Recipe& evaluating, std::vector<Finding>& findings);

// Items that training has seen, by the corpora of all these recipes: own probe files are refused
// (Error kInput), built-in items are left out and counted.
void leave_out_trained(const std::vector<const Recipe*>& recipes, std::vector<Probe>& probes,
                       std::vector<Finding>& findings);

// Gates below the recipe file's own or below the default: each is a finding that withholds.
void check_lowered_gates(const Recipe& recipe, std::vector<Finding>& findings);

}  // namespace kvlingua
