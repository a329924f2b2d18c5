#include "eval/dense_twin.h"

#include <cmath>
#include <map>

#include "eval/answer_store.h"
#include "eval/injection.h"
#include "eval/statistics/clustered.h"
#include "eval/statistics/resampling.h"
#include "eval/summary.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/sha256.h"

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

Answer to_answer(const Item& item, const Given& given, const GeneratedRow& row,
                 const Reader& twin) {
  const Probe& probe = *item.probe;
  Sha256 read;
  for (const std::vector<int64_t>* part : {&given.span, &given.tokens})
    read.update(part->data(), part->size() * sizeof(int64_t));
  Answer answer;
  answer.condition = kFullTextDense;
  answer.item = item_key(probe);
  answer.family = probe.family;
  answer.form = probe.form();
  answer.group = probe.group;
  answer.read = read.hex().substr(0, 32);
  answer.scored = markers_digest(probe);
  answer.ids = row.ids;
  answer.text = twin.decode(row.ids);
  answer.stopped = row.stopped;
  for (float value : row.logprobs) answer.logprob += value;
  answer.score = score(probe, answer.text, static_cast<int64_t>(row.ids.size()), row.stopped);
  return answer;
}

std::vector<const Item*> missing_of(const std::vector<Item>& block, const Answers& answers) {
  std::vector<const Item*> missing;
  for (const Item& item : block)
    if (!answers.has(kFullTextDense, item_key(*item.probe))) missing.push_back(&item);
  return missing;
}

}  // namespace

std::string full_text_dense_definition() {
  return "The target with its weights dense reads the same text: what holding them in fewer bits "
         "changes, before anything is handed over.";
}

std::string answer_by_dense_twin(const std::vector<std::vector<Item>>& blocks,
                                 const DenseTwin& twin, const DenseTwinOptions& options,
                                 Answers& answers) {
  std::map<std::string, double> unused;
  AnswerStore store(
      {.file = options.file, .fingerprint = options.fingerprint, .resume = options.resume}, answers,
      unused);
  const Reader* dense = nullptr;
  for (const auto& block : blocks) {
    const std::vector<const Item*> missing = missing_of(block, answers);
    if (missing.empty()) continue;
    std::string why_not;
    if (dense == nullptr) dense = twin.open(why_not);
    if (dense == nullptr) return why_not;
    std::vector<Given> given;
    std::vector<std::vector<int64_t>> gold;
    for (const Item* item : missing) {
      given.push_back(reads(*item, *dense));
      gold.push_back(item->answer);
    }
    const auto rows = answer(*dense, given, options.max_new_tokens, options.batch_size);
    std::vector<Likelihood> rated;
    if (options.likelihoods) rated = likelihoods(*dense, given, gold, options.batch_size, false);
    for (size_t i = 0; i < missing.size(); ++i) {
      Answer one = to_answer(*missing[i], given[i], rows[i], *dense);
      if (!rated.empty()) one.nll_answer = rated[i].nll;
      store.add(one);
      answers.add(std::move(one));
    }
    if (stop_requested()) {
      store.sync();
      throw stopped_error("answers are kept; run again to go on");
    }
  }
  store.sync();
  return {};
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
