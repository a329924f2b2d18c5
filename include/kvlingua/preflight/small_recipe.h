// A recipe cut small, so that its stages can run before it does, and what they took then, scaled to
// the whole recipe.
//
// A phase's time (stage_meter.h) is divided by the units it had in the small run and multiplied by
// those the recipe plans; what happens once counts as it is. Memory is the small run's peak plus
// what the plan says the recipe's size adds. Where a single step, item or solution of the recipe's
// size would take long, a smaller one is measured and scaled by what both compute
// (StageCost::correct).
#pragma once

#include <string>
#include <vector>

#include "kvlingua/preflight/plan.h"

namespace kvlingua {

struct SmallRecipe {
  Recipe recipe;
  int64_t rows_of_whole = 0;  // of training, of the recipe it was cut from
};

// Data, steps and items cut down to seconds; shapes and answers' length are kept, and batches where
// a few of them do not take longer. The linear map is fitted with few source layers where all would
// take long.
SmallRecipe cut_small(const PlanInputs& whole);
// "44 of 6000 documents, ...": what was measured, and how what was not.
std::string say_cut(const PlanInputs& whole, const PlanInputs& small);

// Seconds of a stage whose phases were measured small and have `planned` units in the recipe.
// Projected conditions answer like full_text, which a trained projector imitates; conditions that
// were left out take as long as the most similar one.
double scaled_seconds(const MeasuredStage& measured, const PhaseUnits& planned,
                      const StageCost& cost);

// Replaces time and memory of the plan's stages that were measured.
void adopt(Plan& plan, const PlanInputs& whole, const PlanInputs& small,
           const std::vector<MeasuredStage>& measured);

}  // namespace kvlingua
