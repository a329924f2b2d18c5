// What sweep and identity take: memory of the larger model while it reads and writes, seconds of
// reading, writing, the caches' geometry and the statistics. From shapes: they are not run small.
#pragma once

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

// Cognitive modes of the models of sweep.models whose shapes are known (the pair's by default).
// Nothing of the grid, whose cells are whole runs (cell_recipe()).
StagePlan sweep_plan(const PlanInputs& in);
// Fingerprints of the target, its self-recognition, and personas through the projector.
StagePlan identity_plan(const PlanInputs& in);

}  // namespace kvlingua
