#include "checkpoints/provenance.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

void flatten(const OrderedJson& value, const std::string& path, json& out) {
  if (!value.is_object()) {
    out[path] = json::parse(value.dump());  // this program's own document
    return;
  }
  for (const auto& [key, member] : value.items())
    flatten(member, path.empty() ? key : path + "." + key, out);
}

bool within(std::string_view key, std::string_view section) {
  return key == section ||
         (key.starts_with(section) && key.size() > section.size() && key[section.size()] == '.');
}

// Where something is, how fast it goes or how much memory it takes makes no difference to what
// comes out.
constexpr std::array<std::string_view, 5> kNoMatter = {
    "projector.ridge.add_sums", "projector.ridge.curve", "train.c2c.source_cache",
    "train.c2c.checkpoint_activations", "train.distillation.checkpoint_activations"};
// How long an unfinished stage goes on, and how often it looks.
constexpr std::array<std::string_view, 4> kLength = {".batch.steps", ".batch.epochs",
                                                     ".validate_every", ".patience"};

std::string sums_sha256(const std::vector<std::string>& folders) {
  Sha256 hash;
  for (const std::string& folder : folders) {
    for (const char* file : {"train.safetensors", "heldout.safetensors"})
      hash.update(sha256_file(fs::path(resolve_path(folder)) / file));
  }
  return hash.hex();
}

std::string text_of(const json& value) {
  return printable(value.is_string() ? value.get<std::string>() : value.dump(), 80);
}

}  // namespace

json Provenance::to_json() const {
  return {{"recipe", recipe}, {"pairs", pairs}, {"start", start}};
}

json stage_recipe(const Recipe& recipe, const std::string& named, int64_t seed) {
  const std::string stage = named == kRidgeControl ? kRidgeStage : named;
  Recipe copy = recipe;  // visit() is not const: the same list reads and writes
  json all = json::object(), out = json::object();
  flatten(options_to_json(visit_of(copy)), "", all);
  const StageFacts* facts = find_stage(stage);
  const auto sections =
      facts == nullptr ? std::vector<std::string>{} : facts->sections(recipe.projector.kind);
  for (const auto& [key, value] : all.items()) {
    const bool mine = std::any_of(sections.begin(), sections.end(),
                                  [&](const std::string& s) { return within(key, s); });
    if (mine && std::find(kNoMatter.begin(), kNoMatter.end(), key) == kNoMatter.end())
      out[key] = value;
  }
  out["train.seed"] = seed;
  if (stage == kRidgeStage && !recipe.projector.ridge.add_sums.empty())
    out["projector.ridge.add_sums"] = sums_sha256(recipe.projector.ridge.add_sums);
  return out;
}

std::string projector_sha256(const fs::path& checkpoint) {
  return load_checkpoint_manifest(checkpoint).find("projector.safetensors")->sha256;
}

std::optional<ProvenanceDifference> recipe_difference(const json& made_by, const json& asked,
                                                      bool growing) {
  if (!made_by.is_object() || !made_by.contains("recipe") || !made_by["recipe"].is_object())
    return std::nullopt;
  const json& made = made_by["recipe"];
  // Keys that only one of two versions of this program has are no difference of the recipes.
  for (const auto& [key, value] : asked.items()) {
    const auto was = made.find(key);
    if (was == made.end() || *was == value) continue;
    const bool length = std::any_of(kLength.begin(), kLength.end(),
                                    [&](std::string_view end) { return key.ends_with(end); });
    if (growing && length) continue;
    return ProvenanceDifference{key, text_of(*was), text_of(value)};
  }
  return std::nullopt;
}

std::optional<ProvenanceDifference> data_difference(const std::string& pairs_recipe,
                                                    const Recipe& asked,
                                                    std::optional<int64_t> seed) {
  constexpr std::array kDecides = {
      "kind",       "text_field", "synthetic",         "passage",       "split",
      "validation", "seed",       "shuffle",           "chat",          "queries",
      "min_length", "max_length", "tokens_per_sample", "storage_dtype", "attention_outputs"};
  const auto flat = [](Recipe recipe) {  // visit() is not const
    json all = json::object();
    flatten(options_to_json(visit_of(recipe)), "", all);
    return all;
  };
  json made;
  try {
    made = flat(Recipe::from_yaml(pairs_recipe, "recipe of the pairs"));
  } catch (const Error&) {
    return std::nullopt;  // of another version
  }
  const json now = flat(asked);
  for (const auto& [key, value] : now.items()) {
    const bool decides = std::any_of(kDecides.begin(), kDecides.end(), [&](const char* name) {
      return within(key, cat("data.", name));
    });
    const auto was = made.find(key);
    if (!decides || was == made.end() || *was == value) continue;
    const bool by_command_line = seed && within(key, "data.seed");
    if (by_command_line && value == *seed) continue;
    return ProvenanceDifference{key, text_of(by_command_line ? json(*seed) : *was), text_of(value)};
  }
  return std::nullopt;
}

std::optional<ProvenanceDifference> provenance_difference(const json& made_by,
                                                          const Provenance& asked, bool growing) {
  if (!made_by.is_object()) return std::nullopt;
  if (auto difference = recipe_difference(made_by, asked.recipe, growing)) return difference;
  for (const auto& [key, value] : {std::pair{"pairs", &asked.pairs}, {"start", &asked.start}}) {
    const auto was = made_by.find(key);
    if (was == made_by.end() || !was->is_string() || *was == *value) continue;
    const auto shown = [](const std::string& hash) {
      return hash.empty() ? std::string("none") : printable(hash.substr(0, 16));
    };
    return ProvenanceDifference{key, shown(was->get<std::string>()), shown(*value)};
  }
  return std::nullopt;
}

}  // namespace kvlingua
