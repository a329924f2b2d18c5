#include "eval/ladder.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "eval/statistics/equivalence.h"
#include "eval/statistics/resampling.h"
#include "eval/statistics/tests.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kRungs[] = {"ridge_aligned", "ridge", "mlp", "distilled"};
constexpr int64_t kFewDiscordant = 10;  // as in the criteria (criterion.h)

// The step from `lower` to `upper` on one family; null when no item has both.
Json step(const Answers& answers, const std::string& lower, const std::string& upper,
          const std::string& family, const LadderOptions& options) {
  std::vector<bool> above, below;
  std::vector<double> first, second;
  std::vector<int64_t> groups;
  std::map<std::string, int64_t> labels;
  for (const Answer* answer : distinct_answers(answers.of(upper, family))) {
    const Answer* other = answers.find(lower, answer->item);
    if (other == nullptr) continue;
    above.push_back(answer->score.exact);
    below.push_back(other->score.exact);
    first.push_back(above.back());
    second.push_back(below.back());
    groups.push_back(
        labels.try_emplace(answer->group, static_cast<int64_t>(labels.size())).first->second);
  }
  if (above.empty()) return nullptr;
  stats::Interval interval = stats::bootstrap_difference(first, second,
                                                         {.resamples = options.resamples,
                                                          .confidence = options.confidence,
                                                          .seed = options.seed,
                                                          .groups = groups});
  const auto counts = stats::PairedCounts::of(above, below);
  if (counts.only_first + counts.only_second < kFewDiscordant) {
    const stats::Interval score = stats::paired_difference(counts, options.confidence);
    interval.low = std::min(interval.low, score.low);
    interval.high = std::max(interval.high, score.high);
  }
  return {{"lower", lower},
          {"upper", upper},
          {"difference", interval.estimate},
          {"low", interval.low},
          {"high", interval.high},
          {"n", counts.n()},
          {"only_upper", counts.only_first},
          {"only_lower", counts.only_second},
          {"p", stats::mcnemar_exact(counts.only_first, counts.only_second).p},
          {"rises", interval.low > 0}};
}

}  // namespace

Json ladder(const Answers& answers, const LadderOptions& options) {
  std::vector<std::string> rungs;
  for (const char* name : kRungs)
    if (!answers.empty(name)) rungs.push_back(name);
  if (rungs.size() < 2) return nullptr;
  Json families = Json::object();
  for (const std::string& family : answers.families(rungs.back())) {
    if (family == "cases") continue;
    Json steps = Json::array();
    std::vector<double> p;
    for (size_t i = 1; i < rungs.size(); ++i) {
      Json one = step(answers, rungs[i - 1], rungs[i], family, options);
      if (one.is_null()) continue;
      p.push_back(one["p"].get<double>());
      steps.push_back(std::move(one));
    }
    const auto adjusted = stats::holm(p);
    for (size_t i = 0; i < adjusted.size(); ++i) steps[i]["p_holm"] = adjusted[i];
    families[family] = std::move(steps);
  }
  return {{"rungs", rungs}, {"families", families}};
}

}  // namespace kvlingua
