// What the answers and likelihoods of identity transfer say (transfer.h).
#include <algorithm>
#include <set>

#include "eval/answers/scoring.h"
#include "eval/personas/text_classifier.h"
#include "eval/personas/transfer.h"
#include "eval/statistics/clustered.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
using Written = std::map<std::string, std::vector<WrittenAnswer>>;
using Key = std::tuple<int64_t, int64_t, int64_t>;  // label, wording, prompt

Key key_of(const WrittenAnswer& a) { return {a.label, a.wording, a.prompt}; }

// Wordings and groups that can be left out; {-1} where there is one only.
std::set<int64_t> values_of(const std::vector<WrittenAnswer>& answers,
                            int64_t WrittenAnswer::*what) {
  std::set<int64_t> values;
  for (const WrittenAnswer& a : answers) values.insert(a.*what);
  if (values.size() < 2) values = {-1};
  return values;
}

// Of each answer the persona it sounds like, by a classifier that saw neither its wording nor its
// group of prompts.
std::map<std::string, std::map<Key, int64_t>> classify_all(const Written& written, int64_t kinds) {
  std::map<std::string, std::map<Key, int64_t>> out;
  const std::vector<WrittenAnswer>& known = written.at("full_text");
  for (const int64_t wording : values_of(known, &WrittenAnswer::wording))
    for (const int64_t group : values_of(known, &WrittenAnswer::group)) {
      std::vector<std::string> texts;
      std::vector<int64_t> labels;
      for (const WrittenAnswer& a : known)
        if ((wording < 0 || a.wording != wording) && (group < 0 || a.group != group)) {
          texts.push_back(a.text);
          labels.push_back(a.label);
        }
      if (texts.empty()) continue;
      const TextClassifier classifier(texts, labels, kinds);
      for (const auto& [condition, answers] : written)
        for (const WrittenAnswer& a : answers)
          if ((wording < 0 || a.wording == wording) && (group < 0 || a.group == group))
            out[condition][key_of(a)] = classifier.classify(a.text);
    }
  return out;
}

struct Row {
  std::vector<double> right, marked;
  std::vector<int64_t> text;  // persona and wording
};

bool has_marker(const Persona& persona, const std::string& text) {
  return std::ranges::any_of(persona.markers,
                             [&](const std::string& marker) { return occurs(text, marker); });
}

// Rows of every condition over the same keys, wrong_persona made of the translated ones.
std::map<std::string, Row> rows_of(const Written& written, const IdentityDesign& design) {
  const auto kinds = static_cast<int64_t>(design.personas.size());
  const auto classified = classify_all(written, kinds);
  std::map<std::string, Row> rows;
  std::map<Key, std::map<std::string, const WrittenAnswer*>> by_key;
  for (const auto& [condition, answers] : written)
    for (const WrittenAnswer& a : answers) by_key[key_of(a)][condition] = &a;
  for (const auto& [key, answers] : by_key) {
    if (answers.size() != written.size()) continue;  // not there under every condition
    const auto [label, wording, prompt] = key;
    const Key other{(label + 1) % kinds, wording, prompt};
    if (!classified.at("translated").contains(other) || !by_key[other].contains("translated"))
      continue;
    const Persona& persona = design.personas[static_cast<size_t>(label)];
    const auto add = [&, label = label, wording = wording](
                         const std::string& condition, int64_t predicted, const std::string& text) {
      Row& row = rows[condition];
      row.right.push_back(predicted == label);
      row.marked.push_back(has_marker(persona, text));
      row.text.push_back(1000 * label + wording);
    };
    for (const auto& [condition, answer] : answers)
      add(condition, classified.at(condition).at(key), answer->text);
    add("wrong_persona", classified.at("translated").at(other), by_key[other]["translated"]->text);
  }
  return rows;
}

Json interval_json(const stats::Interval& i) {
  return {{"estimate", i.estimate}, {"low", i.low}, {"high", i.high}};
}

stats::Clustered clustered(const Row& row, const Row* second = nullptr,
                           const Row* floor = nullptr) {
  stats::Clustered out;
  out.first = row.right;
  if (second != nullptr) out.second = second->right;
  if (floor != nullptr) out.floor = floor->right;
  out.group = row.text;
  return out;
}

constexpr const char* kControls[] = {"wrong_persona", "neutral_topic", "noise", "baseline"};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

}  // namespace

Json judge_transfer(const Written& written, const IdentityDesign& design,
                    const IdentityOptions& options) {
  if (!written.contains("full_text") || !written.contains("translated"))
    return {{"verdict", "not measured"}, {"reason", "nothing was translated"}};
  const std::map<std::string, Row> rows = rows_of(written, design);
  if (rows.empty()) return {{"verdict", "not measured"}, {"reason", "no answers to compare"}};
  const stats::ClusterOptions how{.resamples = options.bootstrap,
                                  .confidence = options.confidence,
                                  .seed = static_cast<uint64_t>(options.seed)};
  Json out = {{"rows", Json::object()}, {"above", Json::object()}};
  for (const auto& [condition, row] : rows) {
    Json entry = interval_json(stats::clustered_rate(clustered(row), options.confidence));
    Row marked = row;
    marked.right = row.marked;
    entry["markers"] = interval_json(stats::clustered_rate(clustered(marked), options.confidence));
    entry["n"] = row.right.size();
    out["rows"][condition] = std::move(entry);
  }
  const Row &translated = rows.at("translated"), &full_text = rows.at("full_text");
  bool above = true, below = false, measurable = true;
  const Row* best = nullptr;
  for (const char* control : kControls) {
    if (!rows.contains(control)) continue;
    const Row& row = rows.at(control);
    const auto gap = stats::clustered_difference(clustered(translated, &row), how),
               room = stats::clustered_difference(clustered(full_text, &row), how);
    out["above"][control] = interval_json(gap);
    above = above && gap.low > 0;
    below = below || gap.high < options.margin;
    measurable = measurable && room.low > 0;
    if (best == nullptr || mean_of(row.right) > mean_of(best->right)) best = &row;
  }
  if (best != nullptr)
    out["share_of_gap"] =
        interval_json(stats::clustered_share(clustered(translated, &full_text, best), how));
  out["chance"] = 1.0 / static_cast<double>(design.personas.size());
  out["verdict"] = !measurable ? "not measurable"
                   : above     ? "transferred"
                   : below     ? "none"
                               : "undecided";
  out["reason"] =
      measurable ? "" : "the target does not write as these personas where it reads them itself";
  return out;
}

Json judge_recognition(const std::map<std::string, std::vector<Recognised>>& recognised,
                       const IdentityDesign& design, const IdentityOptions& options) {
  const double chance = 1.0 / static_cast<double>(design.personas.size());
  Json out = {{"chance", chance}, {"rows", Json::object()}};
  for (const auto& [condition, entries] : recognised) {
    stats::Clustered items;
    for (const Recognised& r : entries) {
      items.first.push_back(r.predicted == r.label);
      items.group.push_back(1000 * r.label + r.wording);
    }
    const auto rate = stats::clustered_rate(items, options.confidence);
    out["rows"][condition] = interval_json(rate);
    out["rows"][condition]["n"] = entries.size();
    out["rows"][condition]["verdict"] = rate.low > chance                     ? "recognised"
                                        : rate.high < chance + options.margin ? "not recognised"
                                                                              : "undecided";
  }
  return out;
}

}  // namespace kvlingua
