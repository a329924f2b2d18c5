#include "kvlingua/config/stages.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "kvlingua/base/error.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/train_options.h"

namespace kvlingua {

const char* to_string(LearnsFrom from) {
  return from == LearnsFrom::kPairs ? "pairs" : "conversations";
}

const std::vector<StageFacts>& stages() {
  static const std::vector<StageFacts> table = {
#define STAGE(id, name, from, condition, minimises, decided_by, ...) \
  {name, LearnsFrom::from, condition, minimises, decided_by},
#include "kvlingua/config/stages.def"
#undef STAGE
  };
  return table;
}

const StageFacts* find_stage(std::string_view name) {
  for (const StageFacts& stage : stages())
    if (stage.name == name) return &stage;
  return nullptr;
}

const StageFacts* stage_of_condition(std::string_view condition) {
  for (const StageFacts& stage : stages())
    if (stage.condition == condition) return &stage;
  return nullptr;
}

std::vector<std::string_view> stage_names() {
  std::vector<std::string_view> names;
  for (const StageFacts& stage : stages()) names.emplace_back(stage.name);
  return names;
}

std::vector<std::string_view> stage_conditions() {
  std::vector<std::string_view> names;
  for (const StageFacts& stage : stages()) names.emplace_back(stage.condition);
  return names;
}

std::string StageFacts::losses(const TrainOptions& options) const {
  TrainOptions copy = options;  // visit() is not const: the same list reads and writes
  const nlohmann::ordered_json all = options_to_json(visit_of(copy));
  std::string text;
  std::string_view rest = minimises;
  for (size_t open = rest.find('{'); open != std::string_view::npos; open = rest.find('{')) {
    const size_t close = rest.find('}', open);
    const std::string key(rest.substr(open + 1, close - open - 1));
    text += rest.substr(0, open);
    text += cat(all.at(name).at(key).get<double>());
    rest.remove_prefix(close + 1);
  }
  return text + std::string(rest);
}

std::vector<std::string> StageFacts::sections(const std::string& projector_kind) const {
  std::vector<std::string> found;
  std::istringstream words(decided_by);
  for (std::string word; words >> word;) {
    if (word != "{projector}") {
      found.push_back(word);
      continue;
    }
    for (const char* key : {"kind", "dtype"}) found.push_back(cat("projector.", key));
    found.push_back("projector." + projector_kind);
    if (projector_kind == "mlp") found.emplace_back("projector.ridge");  // what it stands over
  }
  found.push_back(cat("train.", name));
  found.emplace_back("train.shuffle_pairs");
  return found;
}

}  // namespace kvlingua
