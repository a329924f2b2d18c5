// What sweep and identity take: memory of the larger model while it reads and writes, seconds of
// reading, writing, the caches' geometry and the statistics. They are not run small: computed from
// shapes, and from the pace at which a small evaluation wrote.
#pragma once

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

// Cognitive modes of the models of sweep.models whose shapes are known (the pair's by default).
// Nothing of the grid, whose cells are whole runs (cell_recipe()). `slower`: how many times as long
// as computed a step of the models takes here (steps_slower()).
StagePlan sweep_plan(const PlanInputs& in, double slower = 1);
// Fingerprints of the target, its self-recognition, and personas through the projector.
StagePlan identity_plan(const PlanInputs& in, double slower = 1);

}  // namespace kvlingua
