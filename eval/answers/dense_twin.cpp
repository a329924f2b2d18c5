#include "eval/answers/dense_twin.h"

#include <cmath>

#include "eval/report/summary.h"
#include "eval/statistics/clustered.h"
#include "eval/statistics/resampling.h"

namespace kvlingua {
namespace {

// In the steps in which full_text reads (condition.h).
Given reads(const Item& item, const Reader& twin) {
  Given given;
  given.before = twin.prefix.empty() ? nullptr : &twin.prefix;
  given.span = item.span;
  given.tokens = item.span.empty() ? item.rest_alone : item.rest;
  given.position = twin.prefix_length() + static_cast<int64_t>(item.span.size());
  return given;
}

}  // namespace

std::string full_text_dense_definition() {
  return "The target with its weights dense reads the same text: what holding them in fewer bits "
         "changes, before anything is handed over.";
}

std::string answer_by_dense_twin(const std::vector<std::vector<Item>>& blocks,
                                 const DenseTwin& twin, const BesideOptions& options,
                                 Answers& answers) {
  std::string why_not;
  answer_beside(
      blocks,
      {.condition = kFullTextDense, .open = [&] { return twin.open(why_not); }, .reads = reads},
      options, answers);
  return why_not;
}

std::optional<QuantisationCost> quantisation_cost(const Answers& answers,
                                                  const std::string& weights, double confidence,
                                                  uint64_t seed) {
  stats::Clustered exact;
  std::vector<std::string> groups, nll_groups;
  std::vector<double> quantised, dense;
  QuantisationCost cost{.weights = weights};
  for (const Answer* ours : answers.of("full_text")) {
    const Answer* theirs = answers.find(kFullTextDense, ours->item);
    if (theirs == nullptr) continue;
    ++cost.n;
    cost.equal += ours->ids == theirs->ids ? 1 : 0;
    exact.first.push_back(ours->score.exact ? 1 : 0);
    exact.second.push_back(theirs->score.exact ? 1 : 0);
    groups.push_back(cat(ours->family, "/", ours->group));
    if (std::isnan(ours->nll_answer) || std::isnan(theirs->nll_answer)) continue;
    quantised.push_back(ours->nll_answer);
    dense.push_back(theirs->nll_answer);
    nll_groups.push_back(groups.back());
  }
  if (cost.n == 0) return std::nullopt;
  cost.equal_rate = rate_of(cost.equal, cost.n, confidence);
  exact.group = stats::labels_of(groups);
  const stats::Interval interval =
      stats::clustered_difference(exact, {.confidence = confidence, .seed = seed});
  cost.exact = {interval.estimate, interval.low, interval.high};
  if (dense.empty()) return cost;
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double one : values) sum += one;
    return sum / static_cast<double>(values.size());
  };
  cost.nll_quantised = mean(quantised), cost.nll_dense = mean(dense);
  const stats::Interval change = stats::bootstrap_difference(
      quantised, dense,
      {.confidence = confidence, .seed = seed, .groups = stats::labels_of(nll_groups)});
  cost.nll_difference = {change.estimate, change.low, change.high};
  return cost;
}

}  // namespace kvlingua
