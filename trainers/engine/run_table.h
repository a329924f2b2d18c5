// The table that a training run starts with: the pair, the data,
// the device and what each stage will take.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

struct RunTable {
  std::vector<std::pair<std::string, std::string>> lines;  // name, text
  std::vector<StagePlan> stages;
  std::vector<nlohmann::ordered_json> facts;  // of each stage, its own
  double product_rate = 0;                    // measured, float32 operations a second
  double peak_rate = 0;                       // the same in the device's fastest type

  std::string text() const;
  nlohmann::ordered_json to_json() const;
};

}  // namespace kvlingua
