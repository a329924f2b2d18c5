// The projector grid of a sweep.
//
// Each cell is generate, train and evaluate from the sweep's recipe with the cell's two models (and
// what sweep.cell changes): its pairs under datasets/<name>-sweep/<cell>, its run under
// checkpoints/<run>/sweep/<cell>. A finished cell leaves cell.json there and is never done again; a
// cell that was stopped goes on where its stage stopped; one that failed is named, and tried again
// by the next run.
#pragma once

#include <filesystem>

#include "stages.h"

namespace kvlingua::verbs {

// Whether the recipe names a grid.
bool has_grid(const Recipe& recipe);
std::string grid_plan(const Recipe& recipe);
// Results under `results`/projector_sweep_<recipe>_*. kFailed when a cell failed. Throws Error:
// kUsage as grid_pairs() does, kTerminated and kInterrupted when asked to stop.
StageOutcome run_grid(const Recipe& recipe, const RunContext& context,
                      const std::filesystem::path& results);

}  // namespace kvlingua::verbs
