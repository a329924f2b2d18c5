// What an evaluation costs (kvlingua/cost/stage_cost.h): answers of every condition.
#pragma once

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

StageCost evaluate_cost();
// How many times as long as computed a step of writing takes here, by what a small run of `small`
// measured; never below 1, since answers end early.
double steps_slower(const MeasuredStage& measured, const PlanInputs& small);

}  // namespace kvlingua
