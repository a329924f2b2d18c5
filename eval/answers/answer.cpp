#include "eval/answers/answer.h"

#include <cmath>

#include "eval/statistics/duplicates.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

nlohmann::json number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}
double number(const nlohmann::json& value) {
  return value.is_number() ? value.get<double>() : Answer::kNone;
}

template <class Kind, size_t n>
Kind named(const std::string& name, const Kind (&kinds)[n], const std::string& where) {
  for (Kind kind : kinds)
    if (name == to_string(kind)) return kind;
  throw Error({.code = ExitCode::kCorrupt,
               .where = where,
               .what = "unknown word in a stored answer",
               .got = printable(name)});
}

}  // namespace

std::string item_key(const Probe& probe) {
  return cat(probe.family, "/", probe.form(), "/", probe.id);
}

std::string markers_digest(const Probe& probe) {
  std::string text;
  for (const auto& marker : probe.markers) text += marker + "\n";
  text += "|\n";
  for (const auto& known : probe.parametric) text += known + "\n";
  return sha256_hex(text).substr(0, 32);
}

int64_t rescore(Answers& answers, const std::vector<Probe>& probes) {
  std::map<std::string, const Probe*> by_item;
  for (const Probe& probe : probes) by_item[item_key(probe)] = &probe;
  int64_t changed = 0;
  for (const Answer* stored : answers.all()) {
    const auto found = by_item.find(stored->item);
    if (found == by_item.end()) continue;
    Answer fresh = *stored;
    fresh.family = found->second->family;
    fresh.form = found->second->form();
    fresh.group = found->second->group;
    fresh.scored = markers_digest(*found->second);
    fresh.score =
        score(*found->second, fresh.text, static_cast<int64_t>(fresh.ids.size()), fresh.stopped);
    if (fresh.to_json() == stored->to_json()) continue;
    ++changed;
    answers.add(std::move(fresh));
  }
  return changed;
}

nlohmann::json Answer::to_json() const {
  return {{"condition", condition},
          {"item", item},
          {"family", family},
          {"form", form},
          {"group", group},
          {"read", read},
          {"scored", scored},
          {"ids", ids},
          {"text", text},
          {"stopped", stopped},
          {"logprob", logprob},
          {"nll_answer", number(nll_answer)},
          {"nll_parametric", number(nll_parametric)},
          {"kl", number(kl)},
          {"bytes_moved", bytes_moved},
          {"exact", score.exact},
          {"partial", score.partial},
          {"stall", to_string(score.stall)},
          {"knowledge", to_string(score.knowledge)},
          {"parametric", score.parametric}};
}

Answer Answer::from_json(const nlohmann::json& json, const std::string& where) {
  try {
    Answer answer;
    answer.condition = json.at("condition");
    answer.item = json.at("item");
    answer.family = json.at("family");
    answer.form = json.at("form");
    answer.group = json.at("group");
    answer.read = json.at("read");
    answer.scored = json.at("scored");
    answer.ids = json.at("ids").get<std::vector<int64_t>>();
    answer.text = json.at("text");
    answer.stopped = json.at("stopped");
    answer.logprob = json.at("logprob");
    answer.nll_answer = number(json.at("nll_answer"));
    answer.nll_parametric = number(json.at("nll_parametric"));
    answer.kl = number(json.at("kl"));
    answer.bytes_moved = json.at("bytes_moved");
    answer.score.exact = json.at("exact");
    answer.score.partial = json.at("partial");
    answer.score.stall = named(json.at("stall").get<std::string>(),
                               {Stall::kNone, Stall::kEmpty, Stall::kEndOfTurnFirst, Stall::kEcho,
                                Stall::kRepetition, Stall::kNoContent},
                               where);
    answer.score.knowledge = named(
        json.at("knowledge").get<std::string>(),
        {Knowledge::kInjected, Knowledge::kParametric, Knowledge::kBoth, Knowledge::kOther}, where);
    answer.score.parametric = json.at("parametric");
    return answer;
  } catch (const nlohmann::json::exception& error) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where,
                 .what = "not a stored answer",
                 .got = printable(error.what()),
                 .remedy = "evaluate again with --restart"});
  }
}

void Answers::add(Answer answer) {
  auto& answers = by_condition_[answer.condition];
  const std::string item = answer.item;
  answers.insert_or_assign(item, std::move(answer));
}

bool Answers::has(const std::string& condition, const std::string& item) const {
  return find(condition, item) != nullptr;
}

const Answer* Answers::find(const std::string& condition, const std::string& item) const {
  const auto of_condition = by_condition_.find(condition);
  if (of_condition == by_condition_.end()) return nullptr;
  const auto found = of_condition->second.find(item);
  return found == of_condition->second.end() ? nullptr : &found->second;
}

std::vector<const Answer*> Answers::of(const std::string& condition, const std::string& family,
                                       const std::string& form) const {
  std::vector<const Answer*> result;
  const auto of_condition = by_condition_.find(condition);
  if (of_condition == by_condition_.end()) return result;
  for (const auto& [item, answer] : of_condition->second)
    if ((family.empty() || answer.family == family) && (form.empty() || answer.form == form))
      result.push_back(&answer);
  return result;
}

std::vector<std::string> Answers::families(const std::string& condition) const {
  std::vector<std::string> names;
  for (const Answer* answer : of(condition))
    if (names.empty() || names.back() != answer->family) names.push_back(answer->family);
  return names;
}

std::vector<const Answer*> Answers::all() const {
  std::vector<const Answer*> result;
  for (const auto& [condition, answers] : by_condition_)
    for (const auto& [item, answer] : answers) result.push_back(&answer);
  return result;
}

std::vector<std::string> Answers::conditions() const {
  std::vector<std::string> names;
  for (const auto& [condition, answers] : by_condition_) names.push_back(condition);
  return names;
}

size_t Answers::size() const {
  size_t total = 0;
  for (const auto& [condition, answers] : by_condition_) total += answers.size();
  return total;
}

std::vector<const Answer*> distinct_answers(const std::vector<const Answer*>& answers,
                                            bool with_markers) {
  std::vector<std::string> keys;
  for (const Answer* answer : answers)
    keys.push_back(answer->read + "\n" + answer->text +
                   (with_markers ? "\n" + answer->scored : ""));
  std::vector<const Answer*> result;
  for (size_t index : stats::distinct(keys).kept) result.push_back(answers[index]);
  return result;
}

}  // namespace kvlingua
