#include "eval/summary.h"

#include <cmath>
#include <map>
#include <set>

#include "eval/criteria/parametric_knowledge.h"
#include "eval/statistics/clustered.h"
#include "eval/statistics/tests.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
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
Json rate_of(const List& answers, double confidence, const Predicate& holds) {
  if (answers.empty()) return rate_json(0, 0, confidence);
  stats::Clustered c;
  int64_t count = 0;
  for (const Answer* answer : answers) {
    c.first.push_back(holds(*answer));
    count += holds(*answer);
  }
  label(answers, c);
  const auto interval = stats::clustered_rate(c, confidence);
  return {{"rate", interval.estimate},
          {"low", interval.low},
          {"high", interval.high},
          {"count", count},
          {"design_effect", interval.design_effect}};
}

int64_t groups_of(const List& answers) {
  std::set<std::string> groups;
  for (const Answer* answer : answers) groups.insert(group_of(*answer));
  return static_cast<int64_t>(groups.size());
}

// Mean over items, its interval over groups (Student's t of cluster-robust errors).
Json mean_of(const List& answers, double Answer::*field, double confidence) {
  std::vector<double> values;
  std::vector<std::string> groups;
  for (const Answer* answer : answers)
    if (std::isfinite(answer->*field)) {
      values.push_back(answer->*field);
      groups.push_back(group_of(*answer));
    }
  if (values.empty()) return nullptr;
  const auto interval = stats::clustered_mean_t(values, stats::labels_of(groups), confidence);
  Json json{{"mean", interval.estimate}, {"low", interval.low}, {"high", interval.high}};
  if (!std::isfinite(interval.low)) json["low"] = json["high"] = nullptr;
  return json;
}

Json cell(const Answers& all, const List& answers, double confidence) {
  const List items = distinct_answers(answers);
  const List inputs =
      distinct_answers(answers, false);  // stalling does not depend on what is looked for
  Json json;
  json["n"] = answers.size();
  json["distinct"] = items.size();
  json["groups"] = groups_of(items);
  json["success"] = rate_of(items, confidence, [](const Answer& a) { return a.score.exact; });
  double partial = 0;
  for (const Answer* answer : items)
    partial += answer->score.partial / static_cast<double>(items.size());
  json["partial"] = partial;
  json["stalled"] =
      rate_of(inputs, confidence, [](const Answer& a) { return a.score.stall != Stall::kNone; });
  for (const Answer* answer : inputs)
    if (answer->score.stall != Stall::kNone) {
      auto& count = json["stalls"][to_string(answer->score.stall)];
      count = count.is_null() ? 1 : count.get<int64_t>() + 1;
    }
  // Of counterfactual families, only what the bare target is shown to know.
  List known = items;
  const bool counterfactual =
      !answers.empty() && answers.front()->family.starts_with("counterfact");
  if (counterfactual)
    std::erase_if(known, [&](const Answer* a) { return !known_by_heart(all, *a); });
  json["known"] = known.size();
  for (Knowledge kind :
       {Knowledge::kInjected, Knowledge::kParametric, Knowledge::kBoth, Knowledge::kOther})
    json[to_string(kind)] =
        rate_of(known, confidence, [&](const Answer& a) { return a.score.knowledge == kind; });
  const double ratio = memorisation_ratio(known);
  json["memorisation_ratio"] = std::isnan(ratio) ? Json() : Json(ratio);
  json["nll"] = mean_of(items, &Answer::nll_answer, confidence);
  json["nll_parametric"] = mean_of(items, &Answer::nll_parametric, confidence);
  json["kl"] = mean_of(items, &Answer::kl, confidence);
  int64_t tokens = 0;
  for (const Answer* answer : answers) tokens += static_cast<int64_t>(answer->ids.size());
  json["tokens_generated"] = tokens;
  return json;
}

// Paired difference of exact answers from another condition, with the sign-flip p (still
// uncorrected).
Json difference(const Answers& answers, const List& first, const std::string& other,
                double confidence, uint64_t seed) {
  stats::Clustered c;
  List both;
  for (const Answer* answer : first)
    if (const Answer* match = answers.find(other, answer->item)) {
      c.first.push_back(answer->score.exact);
      c.second.push_back(match->score.exact);
      both.push_back(answer);
    }
  if (both.empty()) return nullptr;
  label(both, c);
  const auto interval = stats::score_difference(c, confidence);
  return {{"difference", interval.estimate},
          {"low", interval.low},
          {"high", interval.high},
          {"n", interval.n},
          {"groups", interval.groups},
          {"design_effect", interval.design_effect},
          {"p", stats::sign_flip_p(c, 9999, seed)}};
}

void correct(Json& table, const std::string& family, const char* key) {
  std::vector<Json*> cells;
  std::vector<double> p;
  for (auto& [name, condition] : table.items()) {
    if (!condition["families"].contains(family)) continue;
    auto& cell = condition["families"][family][key];
    if (cell.is_null()) continue;
    cells.push_back(&cell);
    p.push_back(cell["p"].get<double>());
  }
  const auto adjusted = stats::holm(p);
  for (size_t i = 0; i < cells.size(); ++i) (*cells[i])["p_holm"] = adjusted[i];
}

}  // namespace

Json rate_json(int64_t count, int64_t n, double confidence) {
  if (n == 0) return {{"rate", nullptr}, {"low", 0}, {"high", 1}, {"count", 0}};
  const auto interval = stats::wilson(count, n, confidence);
  return {{"rate", interval.estimate},
          {"low", interval.low},
          {"high", interval.high},
          {"count", count}};
}

Json paired_differences(const Answers& answers, const std::string& first, const std::string& second,
                        double confidence, uint64_t seed) {
  Json result = Json::object();
  std::vector<double> p;
  for (const auto& family : answers.families(first)) {
    if (family == "cases") continue;
    Json one =
        difference(answers, distinct_answers(answers.of(first, family)), second, confidence, seed);
    if (one.is_null()) continue;
    p.push_back(one["p"].get<double>());
    result[family] = std::move(one);
  }
  const auto adjusted = stats::holm(p);
  size_t i = 0;
  for (auto& [family, one] : result.items()) one["p_holm"] = adjusted[i++];
  return result;
}

Json summarise(const Answers& answers, const std::vector<std::string>& conditions,
               double confidence, uint64_t seed) {
  Json table = Json::object();
  std::set<std::string> families;
  for (const auto& name : conditions) {
    auto& condition = table[name];
    condition["families"] = Json::object();
    for (const auto& family : answers.families(name)) {
      families.insert(family);
      const List all = answers.of(name, family);
      Json json = cell(answers, all, confidence);
      for (const char* form : {"question", "completion"}) {
        const List part = answers.of(name, family, form);
        if (!part.empty()) json["forms"][form] = cell(answers, part, confidence);
      }
      json["vs_baseline"] = name == "baseline" ? Json()
                                               : difference(answers, distinct_answers(all),
                                                            "baseline", confidence, seed);
      json["vs_full_text"] = name == "full_text" ? Json()
                                                 : difference(answers, distinct_answers(all),
                                                              "full_text", confidence, seed);
      condition["families"][family] = std::move(json);
    }
  }
  for (const auto& family : families)
    for (const char* key : {"vs_baseline", "vs_full_text"}) correct(table, family, key);
  return table;
}

}  // namespace kvlingua
