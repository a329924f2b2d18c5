#include "checkpoints/stage_result.h"

#include <utility>

#include "kvlingua/io/json_number.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

// Members by name; null where a number should be is NaN.
double number(const nlohmann::json& j, const std::string& name) {
  return read_member(j, name, number_or_nan<nlohmann::json>);
}
int64_t count(const nlohmann::json& j, const std::string& name) {
  return read_member(j, name, count_of<nlohmann::json>);
}
std::string text(const nlohmann::json& j, const std::string& name) {
  return read_member(j, name, text_of_json);
}

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
  for (const auto& [name, member] : kScores) scores.*member = number(j, name);
  const double attention = number(j, kAttention);
  if (!std::isnan(attention)) scores.attention_output_cosine = attention;
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
  std::vector<RowScores> layers;
  if (j.is_null()) return layers;
  const auto column = [&](const char* name, const auto& put) {
    read_member(j, name, [&](const nlohmann::json& list) {
      if (list.is_array() && !layers.empty() && list.size() != layers.size())
        throw JsonFieldError(cat(list.size(), " numbers"), cat(layers.size(), ", one a layer"));
      if (layers.empty() && list.is_array()) layers.resize(list.size());
      size_t i = 0;
      read_elements(list,
                    [&](const nlohmann::json& value) { put(layers[i++], number_or_nan(value)); });
    });
  };
  for (const auto& [name, member] : kScores)
    column(name, [&](RowScores& layer, double value) { layer.*member = value; });
  if (j.contains(kAttention))
    column(kAttention,
           [](RowScores& layer, double value) { layer.attention_output_cosine = value; });
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
  RidgeNumbers ridge{.rows = count(j, "rows"),
                     .features = count(j, "features"),
                     .rows_per_feature = number(j, "rows_per_feature")};
  for (const auto& [name, member] : kRidge) {
    const std::string key = std::string(name) + "_key_r2", value = std::string(name) + "_value_r2";
    if (j.contains(key)) ridge.*member = RidgeNumbers::R2{number(j, key), number(j, value)};
  }
  const auto list = [&](const char* name, const auto& read) {
    if (j.contains(name))
      read_member(j, name, [&](const nlohmann::json& values) { read_elements(values, read); });
  };
  list("curve", [&](const nlohmann::json& point) {
    ridge.curve.push_back({.rows = count(point, "rows"),
                           .rows_per_feature = number(point, "rows_per_feature"),
                           .heldout = {number(point, "key_r2"), number(point, "value_r2")}});
  });
  list("chosen", [&](const nlohmann::json& one) {
    ridge.chosen.push_back({.layer = count(one, "layer"),
                            .tokens_before = count(one, "tokens_before"),
                            .r2 = number(one, "r2")});
  });
  return ridge;
}

void read_optional(const nlohmann::json& j, const char* name, std::optional<double>& into) {
  if (j.contains(name)) into = number(j, name);
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
  if (!j.is_object()) throw JsonFieldError(printable(j.dump(), 60), "an object");
  ValidationNumbers numbers;
  if (j.contains("key_r2")) numbers.scores = scores_of(j);
  if (j.contains("per_layer")) numbers.per_layer = read_member(j, "per_layer", layers_of);
  if (j.contains("baselines"))
    read_member(j, "baselines", [&](const nlohmann::json& all) {
      for (const auto& [name, baseline] : all.items())
        numbers.baselines[name] = read_member(all, name, scores_of);
    });
  numbers.rows = j.contains("rows") ? count(j, "rows") : 0;
  read_optional(j, "kl", numbers.kl);
  read_optional(j, "kl_trained", numbers.kl_trained);
  read_optional(j, "cross_entropy", numbers.cross_entropy);
  if (j.contains("ridge")) numbers.ridge = read_member(j, "ridge", ridge_of);
  return numbers;
}

Json Stopped::to_json() const { return {{"step", step}, {"reason", reason}, {"remedy", remedy}}; }

Stopped Stopped::from_json(const nlohmann::json& j) {
  return {.step = count(j, "step"), .reason = text(j, "reason"), .remedy = text(j, "remedy")};
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
  StageResult result{.stage = text(j, "stage"),
                     .steps = count(j, "steps"),
                     .tokens = count(j, "tokens"),
                     .seconds = number(j, "seconds"),
                     .first_loss = number(j, "first_loss"),
                     .last_loss = number(j, "last_loss"),
                     .validation = read_member(j, "validation", ValidationNumbers::from_json),
                     .checkpoint = text(j, "checkpoint")};
  read_optional(j, "start_score", result.start_score);
  result.best_step = j.contains("best_step") ? count(j, "best_step") : 0;
  read_optional(j, "lr", result.lr);
  if (j.contains("stopped")) result.stopped = read_member(j, "stopped", Stopped::from_json);
  return result;
}

}  // namespace kvlingua
