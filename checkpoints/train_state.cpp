#include "checkpoints/train_state.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using nlohmann::json;

constexpr int64_t kMost = int64_t{1} << 53;  // of counts: more than any run reaches

// A field as it was written; throws json::exception for any other type or range.
template <class T>
void read_field(const json& j, T& value) {
  if constexpr (std::is_same_v<T, double>) {
    // What is not finite is written as null.
    value = j.is_null() ? std::numeric_limits<double>::quiet_NaN() : j.get<double>();
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    const bool fits = j.is_number_unsigned() ? j.get<uint64_t>() <= static_cast<uint64_t>(kMost)
                                             : j.is_number_integer() && j.get<int64_t>() >= 0;
    if (!fits) throw json::other_error::create(501, "no count: " + j.dump().substr(0, 60), &j);
    value = static_cast<T>(j.get<int64_t>());
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

// The factor multiplies a float32 loss.
LossScaleState loss_scale_of(const json& j) {
  LossScaleState state;
  read_field(j.at("factor"), state.factor);
  if (!(state.factor > 0) || state.factor > std::numeric_limits<float>::max())
    throw json::other_error::create(501, "no factor of a loss: " + j.dump().substr(0, 60), &j);
  read_field(j.at("finite_steps"), state.finite_steps);
  read_field(j.at("skipped"), state.skipped);
  return state;
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
  std::string field;
  try {
    each_field(state, [&](const char* name, auto& value) {
      field = name;
      read_field(j.at(name), value);
    });
    each_score(state, [&](const char* name, std::optional<double>& score) {
      field = name;
      if (j.contains(field) && !j.at(field).is_null()) score = j.at(field).get<double>();
    });
    field = "validation";
    if (!j.at(field).is_null()) state.validation = ValidationNumbers::from_json(j.at(field));
    field = "results";
    if (!j.at(field).is_array())
      throw json::other_error::create(501, "no list of the stages' results", nullptr);
    for (const auto& result : j.at(field)) state.results.push_back(StageResult::from_json(result));
    field = "stopped";
    if (j.contains(field) && !j.at(field).is_null())
      state.stopped = Stopped::from_json(j.at(field));
    field = "loss_scale";
    if (j.contains(field) && !j.at(field).is_null()) state.loss_scale = loss_scale_of(j.at(field));
  } catch (const nlohmann::json::exception& error) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where, ": ", field),
                 .what = "not a training state of this version",
                 .got = printable(error.what()),
                 .remedy = "start again with --restart"});
  }
  return state;
}

}  // namespace kvlingua
