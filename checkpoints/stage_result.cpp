#include "checkpoints/stage_result.h"

#include <utility>

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN: it is written as null.
double number(const nlohmann::json& j) { return j.is_null() ? NAN : j.get<double>(); }

// The one list of what is measured of rows.
constexpr std::pair<const char*, double RowScores::*> kScores[] = {
    {"key_r2", &RowScores::key_r2},
    {"value_r2", &RowScores::value_r2},
    {"key_cosine", &RowScores::key_cosine},
    {"value_cosine", &RowScores::value_cosine}};
constexpr const char* kAttention = "attention_output_cosine";

Json json_of(const RowScores& scores) {
  Json j;
  for (const auto& [name, member] : kScores) j[name] = scores.*member;
  j[kAttention] = scores.attention_output_cosine ? Json(*scores.attention_output_cosine) : Json();
  return j;
}

RowScores scores_of(const nlohmann::json& j) {
  RowScores scores;
  for (const auto& [name, member] : kScores) scores.*member = number(j.at(name));
  if (!j.at(kAttention).is_null()) scores.attention_output_cosine = j.at(kAttention).get<double>();
  return scores;
}

// A list for each score.
Json json_of(const std::vector<RowScores>& layers) {
  Json j;
  for (const auto& [name, member] : kScores)
    for (const RowScores& layer : layers) j[name].push_back(layer.*member);
  for (const RowScores& layer : layers)
    if (layer.attention_output_cosine) j[kAttention].push_back(*layer.attention_output_cosine);
  return j;
}

std::vector<RowScores> layers_of(const nlohmann::json& j) {
  std::vector<RowScores> layers(j.at("key_r2").size());
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const auto& [name, member] : kScores) layers[i].*member = number(j.at(name).at(i));
    if (j.contains(kAttention)) layers[i].attention_output_cosine = number(j.at(kAttention).at(i));
  }
  return layers;
}

// By the beginning of their two keys, "fitted_key_r2" and "fitted_value_r2".
constexpr std::pair<const char*, std::optional<RidgeNumbers::R2> RidgeNumbers::*> kRidge[] = {
    {"fitted", &RidgeNumbers::fitted},
    {"heldout", &RidgeNumbers::heldout},
    {"doubled", &RidgeNumbers::doubled}};

Json json_of(const RidgeNumbers& ridge) {
  Json j{{"rows", ridge.rows},
         {"features", ridge.features},
         {"rows_per_feature", ridge.rows_per_feature}};
  for (const auto& [name, member] : kRidge) {
    if (!(ridge.*member)) continue;
    j[std::string(name) + "_key_r2"] = (ridge.*member)->key;
    j[std::string(name) + "_value_r2"] = (ridge.*member)->value;
  }
  for (const RidgeNumbers::Point& point : ridge.curve)
    j["curve"].push_back({{"rows", point.rows},
                          {"rows_per_feature", point.rows_per_feature},
                          {"key_r2", point.heldout.key},
                          {"value_r2", point.heldout.value}});
  for (const RidgeNumbers::Choice& one : ridge.chosen)
    j["chosen"].push_back(
        {{"layer", one.layer}, {"tokens_before", one.tokens_before}, {"r2", one.r2}});
  return j;
}

RidgeNumbers ridge_of(const nlohmann::json& j) {
  RidgeNumbers ridge{.rows = j.at("rows"),
                     .features = j.at("features"),
                     .rows_per_feature = number(j.at("rows_per_feature"))};
  for (const auto& [name, member] : kRidge) {
    const std::string key = std::string(name) + "_key_r2", value = std::string(name) + "_value_r2";
    if (j.contains(key)) ridge.*member = RidgeNumbers::R2{number(j.at(key)), number(j.at(value))};
  }
  for (const auto& point : j.value("curve", nlohmann::json::array()))
    ridge.curve.push_back({.rows = point.at("rows"),
                           .rows_per_feature = number(point.at("rows_per_feature")),
                           .heldout = {number(point.at("key_r2")), number(point.at("value_r2"))}});
  for (const auto& one : j.value("chosen", nlohmann::json::array()))
    ridge.chosen.push_back({.layer = one.at("layer"),
                            .tokens_before = one.at("tokens_before"),
                            .r2 = number(one.at("r2"))});
  return ridge;
}

void read_optional(const nlohmann::json& j, const char* name, std::optional<double>& into) {
  if (j.contains(name)) into = number(j.at(name));
}

}  // namespace

Json ValidationNumbers::to_json() const {
  Json j = scores ? json_of(*scores) : Json::object();
  if (kl) j["kl"] = *kl;
  if (kl_trained) j["kl_trained"] = *kl_trained;
  if (cross_entropy) j["cross_entropy"] = *cross_entropy;
  if (scores) {
    for (const auto& [name, baseline] : baselines) j["baselines"][name] = json_of(baseline);
    j["per_layer"] = json_of(per_layer);
    j["rows"] = rows;
  }
  if (ridge) j["ridge"] = json_of(*ridge);
  return j;
}

ValidationNumbers ValidationNumbers::from_json(const nlohmann::json& j) {
  ValidationNumbers numbers;
  if (j.contains("key_r2")) numbers.scores = scores_of(j);
  if (j.contains("per_layer")) numbers.per_layer = layers_of(j.at("per_layer"));
  if (j.contains("baselines"))
    for (const auto& [name, baseline] : j.at("baselines").items())
      numbers.baselines[name] = scores_of(baseline);
  numbers.rows = j.value("rows", int64_t{0});
  read_optional(j, "kl", numbers.kl);
  read_optional(j, "kl_trained", numbers.kl_trained);
  read_optional(j, "cross_entropy", numbers.cross_entropy);
  if (j.contains("ridge")) numbers.ridge = ridge_of(j.at("ridge"));
  return numbers;
}

Json Stopped::to_json() const { return {{"step", step}, {"reason", reason}, {"remedy", remedy}}; }

Stopped Stopped::from_json(const nlohmann::json& j) {
  return {.step = j.at("step"), .reason = j.at("reason"), .remedy = j.at("remedy")};
}

Json StageResult::to_json() const {
  Json numbers = validation.to_json();
  numbers.erase("rows");
  Json j{{"stage", stage},
         {"steps", steps},
         {"tokens", tokens},
         {"seconds", seconds},
         {"tokens_per_second", seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0},
         {"first_loss", first_loss},
         {"last_loss", last_loss},
         {"validation", std::move(numbers)}};
  if (start_score) {
    j["start_score"] = *start_score;
    j["best_step"] = best_step;
  }
  if (lr) j["lr"] = *lr;
  if (stopped) j["stopped"] = stopped->to_json();
  j["checkpoint"] = checkpoint;
  if (took.is_object()) j.update(took);
  return j;
}

StageResult StageResult::from_json(const nlohmann::json& j) {
  StageResult result{.stage = j.at("stage"),
                     .steps = j.at("steps"),
                     .tokens = j.at("tokens"),
                     .seconds = number(j.at("seconds")),
                     .first_loss = number(j.at("first_loss")),
                     .last_loss = number(j.at("last_loss")),
                     .validation = ValidationNumbers::from_json(j.at("validation")),
                     .checkpoint = j.at("checkpoint")};
  read_optional(j, "start_score", result.start_score);
  result.best_step = j.value("best_step", int64_t{0});
  read_optional(j, "lr", result.lr);
  if (j.contains("stopped")) result.stopped = Stopped::from_json(j.at("stopped"));
  return result;
}

}  // namespace kvlingua
