// OptimizerPolicy: where trainings differ in how they use one and the same optimizer. A stage
// passes its own (TrainerOptions::policy); the defaults are this program's.
#pragma once

#include <string>

#include "kvlingua/config/train_options.h"
#include "trainers/engine/schedule.h"

namespace kvlingua {

// The linear map is not pulled to zero, nor are biases.
bool decays(const std::string& parameter_name);

struct OptimizerPolicy {
  // The learning rate of a step (from 0) of so many.
  double (*rate)(const OptimizerOptions& options, int64_t step, int64_t total) = learning_rate;
  // Whether weight decay applies to a parameter of this name.
  bool (*decays)(const std::string& parameter_name) = kvlingua::decays;
  // Half weights have float32 masters; without, they are changed in their own type.
  bool master_copy = true;
};

}  // namespace kvlingua
