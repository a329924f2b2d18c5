#include "eval/report/summary.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "eval/criteria/parametric_knowledge.h"
#include "eval/statistics/clustered.h"
#include "eval/statistics/tests.h"

namespace kvlingua {

namespace {

using List = std::vector<const Answer*>;

// The unit of every interval, and what its forms have in common.
void label(const List& answers, stats::Clustered& c) {
  std::vector<std::string> groups, contents;
  for (const Answer* answer : answers) {
    groups.push_back(group_of(*answer));
    contents.push_back(content_of(*answer));
  }
  c.group = stats::labels_of(groups);
  c.content = stats::labels_of(contents);
}

template <class Predicate>
Rate rate_where(const List& answers, double confidence, const Predicate& holds) {
  if (answers.empty()) return {};
  stats::Clustered c;
  int64_t count = 0;
  for (const Answer* answer : answers) {
    c.first.push_back(holds(*answer));
    count += holds(*answer);
  }
  label(answers, c);
  const auto interval = stats::clustered_rate(c, confidence);
  return {.rate = interval.estimate,
          .low = interval.low,
          .high = interval.high,
          .count = count,
          .design_effect = interval.design_effect};
}

int64_t groups_of(const List& answers) {
  std::set<std::string> groups;
  for (const Answer* answer : answers) groups.insert(group_of(*answer));
  return static_cast<int64_t>(groups.size());
}

// Mean over items, its interval over groups (Student's t of cluster-robust errors).
MeanInterval mean_of(const List& answers, double Answer::*field, double confidence) {
  std::vector<double> values;
  std::vector<std::string> groups;
  for (const Answer* answer : answers)
    if (std::isfinite(answer->*field)) {
      values.push_back(answer->*field);
      groups.push_back(group_of(*answer));
    }
  if (values.empty()) return {};
  const auto interval = stats::clustered_mean_t(values, stats::labels_of(groups), confidence);
  return {interval.estimate, interval.low, interval.high};
}

std::vector<std::pair<std::string, int64_t>> stalls_of(const List& answers) {
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const Answer* answer : answers) {
    if (answer->score.stall == Stall::kNone) continue;
    const std::string kind = to_string(answer->score.stall);
    const auto known = std::find_if(counts.begin(), counts.end(),
                                    [&](const auto& one) { return one.first == kind; });
    if (known == counts.end())
      counts.emplace_back(kind, 1);
    else
      ++known->second;
  }
  return counts;
}

Cell cell_of(const Answers& all, const List& answers, double confidence) {
  const List items = distinct_answers(answers);
  const List inputs =
      distinct_answers(answers, false);  // stalling does not depend on what is looked for
  Cell cell{.n = static_cast<int64_t>(answers.size()),
            .distinct = static_cast<int64_t>(items.size()),
            .groups = groups_of(items)};
  cell.success = rate_where(items, confidence, [](const Answer& a) { return a.score.exact; });
  for (const Answer* answer : items)
    cell.partial += answer->score.partial / static_cast<double>(items.size());
  cell.stalled =
      rate_where(inputs, confidence, [](const Answer& a) { return a.score.stall != Stall::kNone; });
  cell.stalls = stalls_of(inputs);
  // Of counterfactual families, only what the bare target is shown to know.
  List known = items;
  if (!answers.empty() && answers.front()->family.starts_with("counterfact"))
    std::erase_if(known, [&](const Answer* a) { return !known_by_heart(all, *a); });
  cell.known = static_cast<int64_t>(known.size());
  const auto saying = [&](Knowledge kind) {
    return rate_where(known, confidence,
                      [&](const Answer& a) { return a.score.knowledge == kind; });
  };
  cell.injected = saying(Knowledge::kInjected);
  cell.parametric = saying(Knowledge::kParametric);
  cell.both = saying(Knowledge::kBoth);
  cell.other = saying(Knowledge::kOther);
  cell.memorisation_ratio = memorisation_ratio(known);
  cell.nll = mean_of(items, &Answer::nll_answer, confidence);
  cell.nll_parametric = mean_of(items, &Answer::nll_parametric, confidence);
  cell.kl = mean_of(items, &Answer::kl, confidence);
  for (const Answer* answer : answers)
    cell.tokens_generated += static_cast<int64_t>(answer->ids.size());
  return cell;
}

// Paired difference of exact answers from another condition, with the sign-flip p (still
// uncorrected); none when no item was answered under both.
std::optional<Difference> difference(const Answers& answers, const List& first,
                                     const std::string& other, double confidence, uint64_t seed) {
  stats::Clustered c;
  List both;
  for (const Answer* answer : first)
    if (const Answer* match = answers.find(other, answer->item)) {
      c.first.push_back(answer->score.exact);
      c.second.push_back(match->score.exact);
      both.push_back(answer);
    }
  if (both.empty()) return std::nullopt;
  label(both, c);
  const auto interval = stats::score_difference(c, confidence);
  return Difference{.difference = interval.estimate,
                    .low = interval.low,
                    .high = interval.high,
                    .n = interval.n,
                    .groups = interval.groups,
                    .design_effect = interval.design_effect,
                    .p = stats::sign_flip_p(c, 9999, seed)};
}

// Holm over all of them.
void correct(const std::vector<Difference*>& differences) {
  std::vector<double> p;
  for (const Difference* one : differences) p.push_back(one->p);
  const auto adjusted = stats::holm(p);
  for (size_t i = 0; i < differences.size(); ++i) differences[i]->p_holm = adjusted[i];
}

void correct_family(std::vector<ConditionNumbers>& table, const std::string& family,
                    std::optional<Difference> FamilyNumbers::*against) {
  std::vector<Difference*> differences;
  for (ConditionNumbers& condition : table)
    for (FamilyNumbers& of : condition.families)
      if (of.family == family && of.*against) differences.push_back(&*(of.*against));
  correct(differences);
}

FamilyNumbers family_of(const Answers& answers, const std::string& name, const std::string& family,
                        double confidence, uint64_t seed) {
  const List all = answers.of(name, family), once = distinct_answers(all);
  FamilyNumbers numbers{.family = family, .cell = cell_of(answers, all, confidence)};
  for (const char* form : {"question", "completion"}) {
    const List part = answers.of(name, family, form);
    if (!part.empty()) numbers.forms.emplace_back(form, cell_of(answers, part, confidence));
  }
  if (name != "baseline")
    numbers.vs_baseline = difference(answers, once, "baseline", confidence, seed);
  if (name != "full_text")
    numbers.vs_full_text = difference(answers, once, "full_text", confidence, seed);
  return numbers;
}

}  // namespace

Rate rate_of(int64_t count, int64_t n, double confidence) {
  if (n == 0) return {};
  const auto interval = stats::wilson(count, n, confidence);
  return {.rate = interval.estimate, .low = interval.low, .high = interval.high, .count = count};
}

std::vector<FamilyDifference> paired_differences(const Answers& answers, const std::string& first,
                                                 const std::string& second, double confidence,
                                                 uint64_t seed) {
  std::vector<FamilyDifference> result;
  for (const auto& family : answers.families(first)) {
    if (family == "cases") continue;
    if (const auto one = difference(answers, distinct_answers(answers.of(first, family)), second,
                                    confidence, seed))
      result.push_back({family, *one});
  }
  std::vector<Difference*> all;
  for (FamilyDifference& one : result) all.push_back(&one.difference);
  correct(all);
  return result;
}

std::vector<ConditionNumbers> summarise(const Answers& answers,
                                        const std::vector<std::string>& conditions,
                                        double confidence, uint64_t seed) {
  std::vector<ConditionNumbers> table;
  std::set<std::string> families;
  for (const auto& name : conditions) {
    ConditionNumbers condition{.name = name};
    for (const auto& family : answers.families(name)) {
      families.insert(family);
      condition.families.push_back(family_of(answers, name, family, confidence, seed));
    }
    table.push_back(std::move(condition));
  }
  for (const auto& family : families)
    for (const auto against : {&FamilyNumbers::vs_baseline, &FamilyNumbers::vs_full_text})
      correct_family(table, family, against);
  return table;
}

Retention retention(const std::vector<ConditionNumbers>& conditions, const std::string& gated) {
  Retention result;
  for (const ConditionNumbers& condition : conditions) {
    double nll = 0, kl = 0, n = 0;
    for (const FamilyNumbers& family : condition.families) {
      const Cell& cell = family.cell;
      if (std::isnan(cell.nll.mean) || std::isnan(cell.kl.mean)) continue;
      const auto weight = static_cast<double>(cell.distinct);
      nll += weight * cell.nll.mean;
      kl += weight * cell.kl.mean;
      n += weight;
    }
    if (n == 0) continue;
    result.conditions.push_back({condition.name, nll / n, kl / n});
    if (condition.name == gated) {
      result.nll = nll / n;
      result.kl = kl / n;
    }
  }
  return result;
}

}  // namespace kvlingua
