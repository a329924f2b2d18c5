#include "eval/attribution.h"

#include <algorithm>
#include <cmath>

#include "eval/criteria/criterion.h"
#include "eval/judgement.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
using Value = double (*)(const Answer&);

double exact(const Answer& answer) { return answer.score.exact; }
double likelihood(const Answer& answer) { return -answer.nll_answer; }  // higher is better

// Values of three conditions on the items that all of them answered.
stats::Clustered paired(const Answers& answers, const std::string& family, const std::string& first,
                        const std::string& floor, Value value) {
  stats::Clustered c;
  std::vector<std::string> groups;
  for (const Answer* full : distinct_answers(answers.of("full_text", family))) {
    const Answer *a = answers.find(first, full->item), *b = answers.find(floor, full->item);
    if (a == nullptr || b == nullptr) continue;
    const double x = value(*a), y = value(*full), z = value(*b);
    if (!std::isfinite(x) || !std::isfinite(y) || !std::isfinite(z)) continue;
    c.first.push_back(x);
    c.second.push_back(y);
    c.floor.push_back(z);
    groups.push_back(group_of(*full));
  }
  c.group = stats::labels_of(groups);
  return c;
}

Json share(const Answers& answers, const std::string& family, const std::string& first,
           const std::string& floor, Value value, const AttributionOptions& options) {
  const auto interval = stats::bootstrap_share(
      paired(answers, family, first, floor, value),
      {.resamples = options.resamples, .confidence = options.confidence, .seed = options.seed});
  if (!std::isfinite(interval.estimate)) return nullptr;
  const auto end = [](double v) { return std::isfinite(v) ? Json(v) : Json(); };
  return {{"statistic", interval.estimate},
          {"low", end(interval.low)},
          {"high", end(interval.high)},
          {"n", interval.n}};
}

double mean_of(const Answers& answers, const std::string& family, const std::string& condition,
               Value value) {
  double sum = 0, n = 0;
  for (const Answer* answer : answers.of(condition, family))
    if (std::isfinite(value(*answer))) sum += value(*answer), n += 1;
  return n > 0 ? sum / n : std::nan("");
}

Json of_family(const Answers& answers, const std::string& family,
               const std::vector<std::string>& projectors, Value value,
               const AttributionOptions& options) {
  std::string best;
  double highest = -HUGE_VAL;
  for (const auto& control : compulsory_controls(false)) {
    const double mean = mean_of(answers, family, control, value);
    if (mean > highest) highest = mean, best = control;
  }
  Json result{{"best_control", best.empty() ? Json() : Json(best)}, {"conditions", Json::object()}};
  const auto add = [&](const std::string& name, bool gain) {
    if (answers.of(name, family).empty()) return;
    result["conditions"][name] = {
        {"share", share(answers, family, name, "baseline", value, options)},
        {"gain",
         gain && !best.empty() ? share(answers, family, name, best, value, options) : Json()}};
  };
  for (const auto& name : projectors) add(name, true);
  for (const auto& name : compulsory_controls(false)) add(name, false);
  return result;
}

}  // namespace

Json attribution(const Answers& answers, const std::vector<std::string>& projectors,
                 const AttributionOptions& options) {
  Json families = Json::object();
  for (const auto& family : answers.families("full_text")) {
    if (family == "cases") continue;
    families[family] = {{"exact", of_family(answers, family, projectors, &exact, options)},
                        {"nll", of_family(answers, family, projectors, &likelihood, options)}};
  }
  return {{"resamples", options.resamples}, {"families", families}};
}

}  // namespace kvlingua
