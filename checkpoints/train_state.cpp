#include "checkpoints/train_state.h"

#include <limits>
#include <type_traits>

#include "kvlingua/base/error.h"
#include "kvlingua/config/train_options.h"
#include "kvlingua/io/json_number.h"

namespace kvlingua {
namespace {

using nlohmann::json;

// A field as it was written; throws JsonFieldError for any other type or range.
template <class T>
void read_field(const json& j, T& value) {
  if constexpr (std::is_same_v<T, double>) {
    value = number_or_nan(j);  // what is not finite is written as null
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    value = static_cast<T>(count_of(j));
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = text_of_json(j);
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!j.is_boolean()) throw JsonFieldError(printable(j.dump(), 60), "true or false");
    value = j.get<bool>();
  } else {
    j.get_to(value);
  }
}

// The one list of fields; `f` reads or writes each.
template <class State, class F>
void each_field(State& s, F&& f) {
  f("stage", s.stage);
  f("stage_finished", s.stage_finished);
  f("step", s.step);
  f("total_steps", s.total_steps);
  f("global_step", s.global_step);
  f("tokens", s.tokens);
  f("seconds", s.seconds);
  f("first_loss", s.first_loss);
  f("last_loss", s.last_loss);
  f("best_step", s.best_step);
  f("validations_without_gain", s.validations_without_gain);
  f("loader", s.loader);
  f("metrics_bytes", s.metrics_bytes);
}

template <class State, class F>
void each_score(State& s, F&& f) {
  f("best_score", s.best_score);
  f("start_score", s.start_score);
  f("start_r2", s.start_r2);
  f("rate", s.rate);
}

constexpr double kLargestFloat = std::numeric_limits<float>::max();

// The factor multiplies a float32 loss; the steps are counted in an int32.
LossScaleState loss_scale_of(const json& j) {
  return {
      .factor = read_member(j, "factor",
                            [](const json& v) { return number_within(v, 1e-30, kLargestFloat); }),
      .finite_steps = read_member(
          j, "finite_steps",
          [](const json& v) { return whole_number(v, 0, std::numeric_limits<int32_t>::max()); }),
      .skipped = read_member(j, "skipped", count_of<json>)};
}

std::vector<StageResult> results_of(const json& j) {
  std::vector<StageResult> results;
  read_elements(j, [&](const json& one) { results.push_back(StageResult::from_json(one)); });
  return results;
}

// What contradicts itself, each number being of its range.
void check_state(const TrainState& state) {
  if (state.best_step <= state.step) return;
  JsonFieldError error(cat(state.best_step), cat("at most step, ", state.step));
  error.within("best_step");
  throw error;
}

}  // namespace

json TrainState::to_json() const {
  json j;
  each_field(*this, [&](const char* name, const auto& value) { j[name] = value; });
  each_score(*this, [&](const char* name, const std::optional<double>& score) {
    j[name] = score ? nlohmann::json(*score) : nlohmann::json(nullptr);
  });
  const auto or_null = [](const auto& value) {
    return value ? nlohmann::json(value->to_json()) : nlohmann::json();
  };
  j["validation"] = or_null(validation);
  j["stopped"] = or_null(stopped);
  j["results"] = nlohmann::json::array();
  for (const StageResult& result : results)
    j["results"].push_back(nlohmann::json(result.to_json()));
  if (loss_scale)
    j["loss_scale"] = {{"factor", loss_scale->factor},
                       {"finite_steps", loss_scale->finite_steps},
                       {"skipped", loss_scale->skipped}};
  return j;
}

TrainState TrainState::from_json(const nlohmann::json& j, const std::string& where) {
  TrainState state;
  // Absent and null are the same.
  const auto optional = [&](const char* name, const auto& read) {
    if (j.contains(name) && !j[name].is_null()) read_member(j, name, read);
  };
  try {
    each_field(state, [&](const char* name, auto& value) {
      read_member(j, name, [&](const json& v) { read_field(v, value); });
    });
    each_score(state, [&](const char* name, std::optional<double>& score) {
      optional(name, [&](const json& v) { score = number_or_nan(v); });
    });
    optional("rate", [&](const json& v) { state.rate = number_within(v, 1e-30, kLargestRate); });
    optional("validation",
             [&](const json& v) { state.validation = ValidationNumbers::from_json(v); });
    read_member(j, "results", [&](const json& v) { state.results = results_of(v); });
    optional("stopped", [&](const json& v) { state.stopped = Stopped::from_json(v); });
    optional("loss_scale", [&](const json& v) { state.loss_scale = loss_scale_of(v); });
    check_state(state);
  } catch (const nlohmann::json::exception& error) {
    throw corrupt_field(error, where, "not a training state of this version",
                        "use an older checkpoint of the run, or start again with --restart");
  }
  return state;
}

}  // namespace kvlingua
