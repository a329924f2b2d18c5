#include "trainers/train.h"

#include <cstdio>

#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "trainers/engine/train_run.h"

namespace kvlingua {

using OrderedJson = nlohmann::ordered_json;

OrderedJson TrainResult::to_json() const { return {{"stages", stages}}; }

std::string TrainResult::summary() const {
  std::string text;
  const auto number = [](const OrderedJson& j, const char* name) {
    char out[32] = "-";
    if (j.contains(name) && j[name].is_number())
      std::snprintf(out, sizeof out, "%.3f", j[name].get<double>());
    return std::string(out);
  };
  for (const OrderedJson& s : stages) {
    const OrderedJson& v = s.at("validation");
    std::string attention = number(v, "attention_output_cosine");
    if (attention == "-") attention = "not measured (data.queries: false)";
    text += cat(s.at("stage").get<std::string>(), ": ", s.at("steps").get<int64_t>(), " steps in ",
                duration_text(s.at("seconds").get<double>()),
                v.contains("cross_entropy")
                    ? cat(", cross-entropy ", number(v, "cross_entropy"))
                    : cat(", R2 K ", number(v, "key_r2"), " V ", number(v, "value_r2"),
                          ", attention cosine ", attention),
                ", ", s.at("checkpoint").get<std::string>(), "\n");
  }
  return text;
}

TrainResult train(const Recipe& recipe, const RunContext& context) {
  return TrainRun(recipe, context).execute();
}

}  // namespace kvlingua
