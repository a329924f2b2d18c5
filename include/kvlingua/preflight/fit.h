// What of a recipe to change so that it fits a device: the least that costs something first.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

struct Fit {
  std::vector<std::string> set;  // "pair.source.weights=nf4"; empty: it fits as it is
  double memory = 0;             // of the stage that then takes most
  std::string stage;             // which that is
};

// The numbers of a recipe that differs from the planned one in what is tried.
using InputsOf = std::function<PlanInputs(const Recipe&)>;

// Tried in this order, each beside those before: smaller batches with as many more accumulated,
// activations computed anew, one model at a time, fewer candidate layers of ridge; then weights of
// the source and of the target in int8, nf4, and the source layer by layer. Nothing: none fits.
std::optional<Fit> find_fit(const Recipe& recipe, const InputsOf& inputs);

// Of one stage that holds models: "weights: nf4 (double) fits: 5.10 GiB of 5.52 GiB; float16 needs
// 9.40 GiB"; empty: it holds none.
std::string say_weights(const Recipe& recipe, const InputsOf& inputs, const StagePlan& stage);

}  // namespace kvlingua
