// Runs one benchmark: the question with its options is the context; the target, given it as text or
// translated, chooses.
#include <algorithm>
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
  std::vector<Given> rows;
  std::vector<std::vector<int64_t>> answers;
  std::vector<double> scale;
  for (size_t k = 0; k < items.size(); ++k)
    for (size_t o = 0; o < items[k].options.size(); ++o) {
      const std::string text = by_ending(options) ? items[k].options[o] : letter(o);
      rows.push_back(given[k]);
      answers.push_back(target.encode(text));
      scale.push_back(
          static_cast<double>(answers.back().size()) /
          (by_ending(options) ? static_cast<double>(std::max<size_t>(1, text.size())) : 1.0));
    }
  const auto likely = likelihoods(target, rows, answers, batch_size, false);
  std::vector<int> chosen;
  size_t at = 0;
  for (const Choice& item : items) {
    int best = 0;
    for (size_t o = 1; o < item.options.size(); ++o)
      if (likely[at + o].nll * scale[at + o] <
          likely[at + static_cast<size_t>(best)].nll * scale[at + static_cast<size_t>(best)])
        best = static_cast<int>(o);
    chosen.push_back(best);
    at += item.options.size();
  }
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
