// What trained what: the part of the recipe, the pair set and the checkpoint before it that made a
// stage's checkpoint. Kept with it, so that a stage made from anything else is never taken for one
// made from this.
//
// Values, not places: pair sets and checkpoints are named by hashes of their contents, so a run
// that was moved, or reached by another spelling of its folder, is the same run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "checkpoints/checkpoint.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {

struct Provenance {
  nlohmann::json recipe = nlohmann::json::object();  // "train.regression.optimizer.lr": 0.001, ...
  std::string pairs;  // sha256 of the pair set or corpus; empty: not known
  std::string start;  // sha256 of the projector it began with; empty: none

  nlohmann::json to_json() const;
};

// The keys of a recipe that decide what stage `stage` makes, with their values. seed: train.seed or
// what --seed put in its place.
nlohmann::json stage_recipe(const Recipe& recipe, const std::string& stage, int64_t seed);

// The sha256 of a checkpoint's projector as its manifest has it.
std::string projector_sha256(const std::filesystem::path& checkpoint);

// The first field in which a checkpoint was made otherwise: "train.regression.batch.size", "pairs"
// (the pair set) or "start" (the checkpoint before). None when it fits, or does not say (made
// before this was kept). `growing`: the stage is not finished, and how long it goes on may change.
struct ProvenanceDifference {
  std::string field, made_with, asked;
};
std::optional<ProvenanceDifference> provenance_difference(const nlohmann::json& made_by,
                                                          const Provenance& asked,
                                                          bool growing = false);
// The same for the recipe's part alone.
std::optional<ProvenanceDifference> recipe_difference(const nlohmann::json& made_by,
                                                      const nlohmann::json& asked,
                                                      bool growing = false);

// The first key of the data section that decides what pairs hold and in which a recipe differs from
// that of the pair set (its text, as the set keeps it). Where files lie and how fast they are read
// is no difference, nor are budgets, which `generate` takes from the command line too. `seed`: what
// the pairs were made with in the end, --seed included; a recipe that says this or what the set's
// recipe said is no difference. None when the text cannot be read.
std::optional<ProvenanceDifference> data_difference(const std::string& pairs_recipe,
                                                    const Recipe& asked,
                                                    std::optional<int64_t> seed = std::nullopt);

}  // namespace kvlingua
