// The stages as training knows them: how each is made and what it costs. Read from the rows of
// config/stages.def.
#pragma once

#include <memory>
#include <string>

#include "trainers/engine/stage.h"

namespace kvlingua {

// Throws Error (kUsage) for a name that no row has. Further errors are the stage's own.
std::unique_ptr<Stage> make_stage(const std::string& name, TrainRun& run);
StageCost cost_of(const std::string& name);

}  // namespace kvlingua
