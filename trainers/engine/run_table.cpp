#include "trainers/engine/run_table.h"

#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"

namespace kvlingua {
namespace {

std::string row(const std::string& name, const std::string& value) {
  return name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + value + "\n";
}

}  // namespace

std::string RunTable::text() const {
  std::string out;
  for (const auto& [name, value] : lines) out += row(name, value);
  for (const StagePlan& s : stages) {
    std::string line =
        cat(count_text(static_cast<double>(s.steps)), " steps of ",
            count_text(static_cast<double>(s.step_size)), " ", s.unit, ", ",
            count_text(static_cast<double>(s.parameters)), " parameters, about ",
            duration_text(s.products / product_rate), " of products, ", bytes_text(s.memory),
            " of memory, ", bytes_text(s.checkpoint_bytes), " a checkpoint");
    if (s.recomputed) line += ", layers recomputed in backward";
    if (s.rows_per_feature > 0) line += ", " + count_text(s.rows_per_feature) + " rows a feature";
    out += row(s.name, line);
  }
  return out;
}

nlohmann::ordered_json RunTable::to_json() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (size_t i = 0; i < stages.size(); ++i) {
    const StagePlan& s = stages[i];
    nlohmann::ordered_json j;
    j["stage"] = s.name;
    j["steps"] = s.steps;
    j["rows_per_step"] = s.step_size;
    j["parameters"] = s.parameters;
    j["memory_bytes"] = static_cast<uint64_t>(s.memory);
    j["seconds"] = s.products / product_rate;
    j["checkpoint_bytes"] = static_cast<uint64_t>(s.checkpoint_bytes);
    if (s.recomputed) j["recomputed"] = true;
    if (s.rows_per_feature > 0) j["rows_per_feature"] = s.rows_per_feature;
    j.update(facts[i]);
    all.push_back(j);
  }
  return all;
}

}  // namespace kvlingua
