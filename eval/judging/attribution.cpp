#include "eval/judging/attribution.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "eval/criteria/criterion.h"
#include "eval/judging/judgement.h"

namespace kvlingua {

namespace {

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

std::optional<ShareInterval> share(const Answers& answers, const std::string& family,
                                   const std::string& first, const std::string& floor, Value value,
                                   const AttributionOptions& options) {
  const auto interval = stats::bootstrap_share(
      paired(answers, family, first, floor, value),
      {.resamples = options.resamples, .confidence = options.confidence, .seed = options.seed});
  if (!std::isfinite(interval.estimate)) return std::nullopt;
  return ShareInterval{interval.estimate, interval.low, interval.high, interval.n};
}

double mean_of(const Answers& answers, const std::string& family, const std::string& condition,
               Value value) {
  double sum = 0, n = 0;
  for (const Answer* answer : answers.of(condition, family))
    if (std::isfinite(value(*answer))) sum += value(*answer), n += 1;
  return n > 0 ? sum / n : std::nan("");
}

Attributed of_family(const Answers& answers, const std::string& family,
                     const std::vector<std::string>& projectors, Value value,
                     const AttributionOptions& options) {
  Attributed result;
  std::string& best = result.best_control;
  double highest = -HUGE_VAL;
  for (const auto& control : compulsory_controls(false)) {
    const double mean = mean_of(answers, family, control, value);
    if (mean > highest) highest = mean, best = control;
  }
  const auto add = [&](const std::string& name, bool gain) {
    if (answers.of(name, family).empty()) return;
    AttributedCondition one{.name = name,
                            .share = share(answers, family, name, "baseline", value, options)};
    if (gain && !best.empty()) one.gain = share(answers, family, name, best, value, options);
    result.conditions.push_back(std::move(one));
  };
  for (const auto& name : projectors) add(name, true);
  for (const auto& name : compulsory_controls(false)) add(name, false);
  return result;
}

}  // namespace

Attribution attribution(const Answers& answers, const std::vector<std::string>& projectors,
                        const AttributionOptions& options) {
  Attribution result{.resamples = options.resamples};
  for (const auto& family : answers.families("full_text")) {
    if (family == "cases") continue;
    result.families.push_back(
        {.family = family,
         .exact = of_family(answers, family, projectors, &exact, options),
         .nll = of_family(answers, family, projectors, &likelihood, options)});
  }
  return result;
}

}  // namespace kvlingua
