// The two frozen models of a pair, for the stages that run them.
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "datasets/pairs/pair_reader.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/tokenizer.h"
#include "trainers/stages/distillation_items.h"

namespace kvlingua {

struct FrozenModels {
  CausalLM source, target;
  Tokenizer source_tokenizer, target_tokenizer;
  DistillationReader source_reader, target_reader;
};

// Throws Error (kInput) when a model is not the one that the pair set was generated with.
std::unique_ptr<FrozenModels> load_frozen_models(const Recipe& recipe, const PairSetInfo& info,
                                                 at::Device device);

}  // namespace kvlingua
