// Runs one benchmark: the question with its options is the context; the target, given it as text or
// translated, chooses.
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "eval/answers/injection.h"
#include "eval/benchmarks/benchmark.h"
#include "eval/conditions/projected.h"
#include "eval/conditions/text.h"
#include "eval/report/summary.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

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

struct Count {
  int64_t right = 0, answered = 0;
};
using Conditions = std::vector<std::unique_ptr<Condition>>;

Conditions conditions_of(const EvaluationInput& input) {
  Conditions conditions;
  conditions.push_back(make_baseline());
  conditions.push_back(make_full_text());
  for (const auto& [name, named] : input.projectors)
    if (named.projector != nullptr)
      conditions.push_back(make_projected(name, *named.projector, named.checkpoint));
  return conditions;
}

std::vector<int> choices_of(const BenchmarkOptions& options, const EvaluationInput& input,
                            const std::vector<Given>& given, const std::vector<Choice>& items) {
  if (options.method != "generate" || by_ending(options))
    return by_likelihood(input.target, given, items, options, input.options.batch_size);
  std::vector<int> chosen;
  for (const auto& row :
       answer(input.target, given, input.options.max_new_tokens, input.options.batch_size))
    chosen.push_back(extract_choice(input.target.decode(row.ids),
                                    items[chosen.size()].options.size(), options.gold == "c2c"));
  return chosen;
}

void ask_block(const BenchmarkOptions& options, const EvaluationInput& input,
               const std::vector<Choice>& choices, const std::vector<Probe>& probes,
               const Conditions& conditions, std::map<std::string, Count>& counts) {
  std::vector<Item> items;
  for (const Probe& probe : probes)
    items.push_back(make_item(probe, input.source, input.target, input.alignment,
                              input.options.max_new_tokens));
  Block block(std::move(items), input.source, input.target,
              {.batch_size = input.options.batch_size, .seed = input.seed});
  for (const auto& condition : conditions) {
    std::vector<Given> given;
    for (size_t i = 0; i < block.size(); ++i) given.push_back(condition->give(block, i));
    const std::vector<int> chosen = choices_of(options, input, given, choices);
    Count& count = counts[condition->name()];
    for (size_t k = 0; k < chosen.size(); ++k) {
      count.answered += chosen[k] >= 0;
      count.right += chosen[k] == static_cast<int>(choices[k].gold);
    }
  }
}

}  // namespace

BenchmarkNumbers run_benchmark(const BenchmarkOptions& options, const EvaluationInput& input) {
  BenchmarkOptions limited = options;
  if (input.limit > 0)
    limited.limit = options.limit > 0 ? std::min(options.limit, input.limit) : input.limit;
  const ChoiceSet set = read_choices(limited);
  const Conditions conditions = conditions_of(input);
  std::map<std::string, Count> counts;
  constexpr size_t kBlock = 32;
  in_batches(set.items.size(), kBlock, [&](size_t begin, size_t end) {
    const std::vector<Choice> choices(set.items.begin() + static_cast<int64_t>(begin),
                                      set.items.begin() + static_cast<int64_t>(end));
    std::vector<Probe> probes;
    for (const Choice& item : choices) probes.push_back(probe_of(item, options));
    ask_block(options, input, choices, probes, conditions, counts);
  });
  BenchmarkNumbers numbers{.name = options.kind,
                           .file = options.file,
                           .gold = options.gold,
                           .method = by_ending(options) ? "likelihood" : options.method,
                           .n = static_cast<int64_t>(set.items.size()),
                           .skipped = set.skipped};
  for (const Choice& item : set.items)
    numbers.chance +=
        1.0 / static_cast<double>(item.options.size()) / static_cast<double>(set.items.size());
  for (const auto& condition : conditions) {
    const Count count = counts[condition->name()];
    numbers.conditions.push_back(
        {condition->name(), rate_of(count.right, numbers.n, input.options.criteria.confidence),
         count.answered});
  }
  return numbers;
}

}  // namespace kvlingua
