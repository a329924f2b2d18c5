// The two frozen models of a pair, for the stages that run them.
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "datasets/pairs/pair_reader.h"
#include "kvlingua/bridge/reader.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {

struct FrozenModels {
  OpenModel source, target;
  Reader source_reader, target_reader;
};

// Throws Error (kInput) when a model is not the one that the pair set was generated with.
std::unique_ptr<FrozenModels> load_frozen_models(const Recipe& recipe, const PairSetInfo& info,
                                                 at::Device device);

}  // namespace kvlingua
