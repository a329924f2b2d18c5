// What an evaluation costs (kvlingua/cost/stage_cost.h): answers of every condition.
#pragma once

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

StageCost evaluate_cost();

}  // namespace kvlingua
