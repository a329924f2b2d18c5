// Runs one benchmark: the question with its options is the context; the target, given it as text or
// translated, chooses.
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "eval/benchmarks/benchmark.h"
#include "eval/conditions/projected.h"
#include "eval/conditions/text.h"
#include "eval/injection.h"
#include "eval/summary.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

std::string letter(size_t index) { return std::string(1, static_cast<char>('A' + index)); }

// Endings are compared as text where the question is an unfinished one; elsewhere by their letters.
bool by_ending(const BenchmarkOptions& options) { return options.kind == "hellaswag"; }

Probe probe_of(const Choice& item, const BenchmarkOptions& options) {
  Probe probe;
  probe.id = item.id;
  probe.family = options.kind;
  probe.group = item.subject.empty() ? item.id : item.subject;
  if (by_ending(options)) {
    probe.context = item.question;
    probe.prompt = "How does this go on?";
    return probe;
  }
  probe.context = item.question + "\n\nChoices:";
  for (size_t i = 0; i < item.options.size(); ++i)
    probe.context += "\n" + letter(i) + ". " + item.options[i];
  probe.prompt = "Answer with the letter of the correct choice.";
  return probe;
}

// The option whose continuation is likeliest: summed over a letter's tokens, per character for
// endings of different length.
std::vector<int> by_likelihood(const Reader& target, const std::vector<Given>& given,
                               const std::vector<Choice>& items, const BenchmarkOptions& options,
                               int64_t batch_size) {
  std::vector<int> chosen;
  in_batches(items.size(), batch_size, [&](size_t begin, size_t end) {
    const ReadRows read(target, {given.begin() + static_cast<int64_t>(begin),
                                 given.begin() + static_cast<int64_t>(end)});
    size_t most = 0;
    for (size_t k = begin; k < end; ++k) most = std::max(most, items[k].options.size());
    std::vector<double> best(end - begin, std::numeric_limits<double>::infinity());
    std::vector<int> choice(end - begin, 0);
    for (size_t o = 0; o < most; ++o) {
      std::vector<std::vector<int64_t>> answers;
      for (size_t k = begin; k < end; ++k)
        answers.push_back(o < items[k].options.size()
                              ? target.encode(by_ending(options) ? items[k].options[o] : letter(o))
                              : std::vector<int64_t>{});
      const auto likely = read.likelihoods(answers, false);
      for (size_t k = begin; k < end; ++k) {
        const size_t row = k - begin;
        if (answers[row].empty()) continue;
        double cost = likely[row].nll * static_cast<double>(answers[row].size());
        if (by_ending(options)) cost /= static_cast<double>(items[k].options[o].size());
        if (cost >= best[row]) continue;
        best[row] = cost;
        choice[row] = static_cast<int>(o);
      }
    }
    chosen.insert(chosen.end(), choice.begin(), choice.end());
  });
  return chosen;
}

}  // namespace

Json run_benchmark(const BenchmarkOptions& options, const EvaluationInput& input) {
  BenchmarkOptions limited = options;
  if (input.limit > 0)
    limited.limit = options.limit > 0 ? std::min(options.limit, input.limit) : input.limit;
  const ChoiceSet set = read_choices(limited);
  std::vector<std::unique_ptr<Condition>> conditions;
  conditions.push_back(make_baseline());
  conditions.push_back(make_full_text());
  for (const auto& [name, named] : input.projectors)
    if (named.projector != nullptr)
      conditions.push_back(make_projected(name, *named.projector, named.checkpoint));

  std::vector<Probe> probes;
  for (const Choice& item : set.items) probes.push_back(probe_of(item, options));
  std::map<std::string, int64_t> right, answered;
  constexpr size_t kBlock = 32;
  for (size_t begin = 0; begin < set.items.size(); begin += kBlock) {
    const size_t end = std::min(set.items.size(), begin + kBlock);
    std::vector<Item> items;
    for (size_t i = begin; i < end; ++i)
      items.push_back(make_item(probes[i], input.source, input.target, input.alignment,
                                input.options.max_new_tokens));
    const std::vector<Choice> choices(set.items.begin() + static_cast<int64_t>(begin),
                                      set.items.begin() + static_cast<int64_t>(end));
    Block block(std::move(items), input.source, input.target,
                {.batch_size = input.options.batch_size, .seed = input.seed});
    for (const auto& condition : conditions) {
      std::vector<Given> given;
      for (size_t i = 0; i < block.size(); ++i) given.push_back(condition->give(block, i));
      std::vector<int> chosen;
      if (options.method == "generate" && !by_ending(options)) {
        for (const auto& row :
             answer(input.target, given, input.options.max_new_tokens, input.options.batch_size))
          chosen.push_back(extract_choice(input.target.decode(row.ids),
                                          choices[chosen.size()].options.size(),
                                          options.gold == "c2c"));
      } else {
        chosen = by_likelihood(input.target, given, choices, options, input.options.batch_size);
      }
      for (size_t k = 0; k < chosen.size(); ++k) {
        answered[condition->name()] += chosen[k] >= 0;
        right[condition->name()] += chosen[k] == static_cast<int>(choices[k].gold);
      }
    }
  }
  double chance = 0;
  for (const Choice& item : set.items)
    chance +=
        1.0 / static_cast<double>(item.options.size()) / static_cast<double>(set.items.size());
  const auto n = static_cast<int64_t>(set.items.size());
  Json json{{"name", options.kind},
            {"file", options.file},
            {"gold", options.gold},
            {"method", by_ending(options) ? "likelihood" : options.method},
            {"n", n},
            {"skipped", set.skipped},
            {"chance", chance}};
  for (const auto& condition : conditions)
    json["conditions"][condition->name()] = {
        {"accuracy", rate_json(right[condition->name()], n, input.options.criteria.confidence)},
        {"answered", answered[condition->name()]}};
  return json;
}

}  // namespace kvlingua
