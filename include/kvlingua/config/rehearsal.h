// Rehearsal: a recipe cut small, so that its stages can run before it does, and what they took
// then, scaled to the whole recipe.
//
// A phase's time (stage_meter.h) is divided by the units it had in the small run and multiplied by
// those the recipe plans; what happens once counts as it is. Memory is the small run's peak plus
// what the plan says the recipe's size adds.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kvlingua/config/plan.h"

namespace kvlingua {

struct SmallRecipe {
  Recipe recipe;
  int64_t rows_of_whole = 0;  // of training, of the recipe it was cut from
};

// Data, steps and items cut down to seconds; shapes, batches and answers' length are kept. The
// linear map is fitted with few source layers where all would take long.
SmallRecipe cut_small(const Recipe& recipe, const ModelNumbers& source, const ModelNumbers& target,
                      const CorpusNumbers& corpus, const MachineNumbers& machine);

struct MeasuredPhase {
  double units = 0, seconds = 0;
};
struct MeasuredStage {
  std::string name;
  double memory = 0;  // peak, bytes
  std::map<std::string, MeasuredPhase> phases;
};

// Seconds of a stage whose phases were measured small and have `planned` units in the recipe.
// Projected conditions answer like full_text, which a trained projector imitates; conditions that
// were left out take as long as the most similar one.
double scaled_seconds(const MeasuredStage& measured, const PhaseUnits& planned);

// What is needed to scale: shapes and sizes of the recipe and of the small one.
struct RehearsalInputs {
  const Recipe& recipe;
  const Recipe& small;
  const ModelNumbers& source;
  const ModelNumbers& target;
  CorpusNumbers corpus, small_corpus;
  const MachineNumbers& machine;
};
// Replaces time and memory of the plan's stages that were measured.
void adopt(Plan& plan, const RehearsalInputs& inputs, const std::vector<MeasuredStage>& measured);

}  // namespace kvlingua
