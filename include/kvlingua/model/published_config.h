// Shapes of models that shipped recipes name,
// so that a plan can be made before they are downloaded.
#pragma once

#include <string>

#include "kvlingua/model/model_config.h"

namespace kvlingua {

// As the model's own config.json states them. Throws Error (kInput) for another name.
ModelConfig published_config(const std::string& name);

}  // namespace kvlingua
