#include "checkpoints/train_state.h"

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

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
  f("validation", s.validation);
  f("results", s.results);
  f("metrics_bytes", s.metrics_bytes);
}

}  // namespace

nlohmann::json TrainState::to_json() const {
  nlohmann::json j;
  each_field(*this, [&](const char* name, const auto& value) { j[name] = value; });
  j["best_score"] = best_score ? nlohmann::json(*best_score) : nlohmann::json(nullptr);
  return j;
}

TrainState TrainState::from_json(const nlohmann::json& j, const std::string& where) {
  TrainState state;
  std::string field;
  try {
    each_field(state, [&](const char* name, auto& value) {
      field = name;
      j.at(name).get_to(value);
    });
    field = "best_score";
    if (!j.at(field).is_null()) state.best_score = j.at(field).get<double>();
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
