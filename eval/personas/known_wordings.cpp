#include "eval/personas/known_wordings.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "eval/personas/classifiers.h"
#include "eval/personas/random_forest.h"
#include "eval/statistics/comparison.h"
#include "kvlingua/base/random.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;
using CacheNumbers = std::vector<size_t>;

constexpr int64_t kFolds = 5;
constexpr std::array kClassifiers = {"random_forest", "linear_svm", "logistic_regression"};

// Caches of each persona, in an order drawn by `random`.
std::vector<CacheNumbers> shuffled_by_label(const std::vector<Signature>& all, size_t kinds,
                                            Random random) {
  std::vector<CacheNumbers> members(kinds);
  for (size_t i = 0; i < all.size(); ++i) members[static_cast<size_t>(all[i].label)].push_back(i);
  for (CacheNumbers& places : members) {
    const std::vector<int64_t> order = random.permutation(static_cast<int64_t>(places.size()));
    CacheNumbers moved;
    for (const int64_t at : order) moved.push_back(places[static_cast<size_t>(at)]);
    places = std::move(moved);
  }
  return members;
}

// What a classifier says of the caches at `test` that has learnt from all others.
std::vector<int64_t> predicted(const std::string& name, const std::vector<Signature>& all,
                               const CacheNumbers& test, size_t kinds,
                               const IdentityOptions& options) {
  const std::set<size_t> asked(test.begin(), test.end());
  CacheNumbers others;
  for (size_t i = 0; i < all.size(); ++i)
    if (!asked.contains(i)) others.push_back(i);
  return classified(name, all, others, test, static_cast<int64_t>(kinds), options);
}

double share_right(const std::vector<Signature>& all, const CacheNumbers& test,
                   const std::vector<int64_t>& labels) {
  double right = 0;
  for (size_t k = 0; k < test.size(); ++k) right += labels[k] == all[test[k]].label;
  return right / static_cast<double>(test.size());
}

// Test places of each fold, every persona spread over all of them.
std::vector<CacheNumbers> stratified_folds(const std::vector<CacheNumbers>& members) {
  std::vector<CacheNumbers> folds(kFolds);
  size_t next = 0;
  for (const CacheNumbers& places : members)
    for (const size_t place : places) folds[next++ % kFolds].push_back(place);
  return folds;
}

// One classifier over the folds: mean, population deviation, each fold, and the interval of the
// mean from resampled prompts.
Json validated(const std::string& name, const std::vector<Signature>& all,
               const std::vector<CacheNumbers>& folds, size_t kinds,
               const IdentityOptions& options) {
  std::vector<double> accuracies;
  std::vector<int64_t> labels(all.size(), -1);
  for (const CacheNumbers& test : folds) {
    const auto found = predicted(name, all, test, kinds, options);
    accuracies.push_back(share_right(all, test, found));
    for (size_t k = 0; k < test.size(); ++k) labels[test[k]] = found[k];
  }
  const double n = static_cast<double>(accuracies.size());
  const double mean = std::accumulate(accuracies.begin(), accuracies.end(), 0.0) / n;
  double variance = 0;
  for (const double a : accuracies) variance += (a - mean) * (a - mean) / n;
  const Json interval = accuracy_interval(all, labels, options, hash_name(name));
  return {{"mean_accuracy", mean},
          {"std_accuracy", std::sqrt(variance)},
          {"fold_accuracies", accuracies},
          {"ci_lower", interval["low"]},
          {"ci_upper", interval["high"]}};
}

// Precision, recall, F1 and support of each persona, as scikit-learn's report has them.
Json class_report(const std::vector<Signature>& all, const CacheNumbers& test,
                  const std::vector<int64_t>& labels, const IdentityDesign& design) {
  Json out = Json::object();
  for (size_t kind = 0; kind < design.personas.size(); ++kind) {
    double hits = 0, said = 0, support = 0;
    for (size_t k = 0; k < test.size(); ++k) {
      const bool is = all[test[k]].label == static_cast<int64_t>(kind),
                 named = labels[k] == static_cast<int64_t>(kind);
      hits += is && named, said += named, support += is;
    }
    const double precision = said > 0 ? hits / said : 0, recall = support > 0 ? hits / support : 0;
    const double sum = precision + recall;
    out[design.personas[kind].key] = {{"precision", precision},
                                      {"recall", recall},
                                      {"f1-score", sum > 0 ? 2 * precision * recall / sum : 0},
                                      {"support", static_cast<int64_t>(support)}};
  }
  return out;
}

// Three of ten caches of each persona are asked.
CacheNumbers held_out(const std::vector<CacheNumbers>& members) {
  CacheNumbers test;
  for (const CacheNumbers& places : members) {
    const auto count = static_cast<size_t>(std::lround(0.3 * static_cast<double>(places.size())));
    test.insert(test.end(), places.begin(),
                places.begin() + static_cast<int64_t>(std::max<size_t>(1, count)));
  }
  return test;
}

Json across_groups(const std::vector<Signature>& all, const IdentityDesign& design,
                   const IdentityOptions& options) {
  std::map<int64_t, CacheNumbers> groups;
  for (size_t i = 0; i < all.size(); ++i) groups[all[i].group].push_back(i);
  if (groups.size() < 2) return nullptr;
  const size_t kinds = design.personas.size();
  Json per_group = Json::object();
  double sum = 0;
  for (const auto& [group, test] : groups) {
    const double accuracy =
        share_right(all, test, predicted("random_forest", all, test, kinds, options));
    const auto place = static_cast<size_t>(group);
    per_group[place < design.groups.size() ? design.groups[place].name : std::to_string(group)] =
        accuracy;
    sum += accuracy;
  }
  const double mean = sum / static_cast<double>(groups.size());
  return {{"per_group", per_group},
          {"mean_accuracy", mean},
          {"above_chance", mean > 1.0 / static_cast<double>(kinds)},
          {"note",
           "random forest, one prompt group left out; every wording is known, so neutral topics "
           "score as high: rows and above hold what counts"}};
}

// The twenty features that the forest splits best by.
Json importance_of(const std::vector<Signature>& all, size_t kinds,
                   const IdentityOptions& options) {
  FeatureRows rows;
  std::vector<int64_t> labels;
  for (const Signature& s : all) rows.push_back(s.features), labels.push_back(s.label);
  const RandomForest forest(rows, labels, static_cast<int64_t>(kinds), options.trees,
                            static_cast<uint64_t>(options.seed));
  const std::vector<double>& share = forest.importance();
  CacheNumbers order(share.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t f) { return share[f]; });
  Json out = Json::array();
  for (const size_t f : order) {
    if (out.size() == 20) break;
    out.push_back({{"layer", f / kLayerFeatures.size()},
                   {"feature", kLayerFeatures[f % kLayerFeatures.size()]},
                   {"importance", share[f]}});
  }
  return out;
}

}  // namespace

Json known_wording_classification(const std::vector<Signature>& personas,
                                  const IdentityDesign& design, const IdentityOptions& options) {
  const size_t kinds = design.personas.size();
  const std::vector<CacheNumbers> members = shuffled_by_label(
      personas, kinds, Random(mix(static_cast<uint64_t>(options.seed), hash_name("folds"))));
  Json out = {{"cv_results", nullptr},
              {"best_classifier", nullptr},
              {"holdout_accuracy", nullptr},
              {"classification_report", nullptr},
              {"cross_prompt_validation", across_groups(personas, design, options)},
              {"feature_importance", importance_of(personas, kinds, options)}};
  const size_t fewest =
      std::ranges::min(members, {}, [](const auto& one) { return one.size(); }).size();
  if (fewest < static_cast<size_t>(kFolds)) return out;
  const std::vector<CacheNumbers> folds = stratified_folds(members);
  std::string best;
  out["cv_results"] = Json::object();
  for (const char* name : kClassifiers) {
    Json& one = out["cv_results"][name] = validated(name, personas, folds, kinds, options);
    if (best.empty() || one["mean_accuracy"] > out["cv_results"][best]["mean_accuracy"])
      best = name;
  }
  const CacheNumbers test = held_out(members);
  const auto labels = predicted(best, personas, test, kinds, options);
  out["best_classifier"] = best;
  out["holdout_accuracy"] = share_right(personas, test, labels);
  out["classification_report"] = class_report(personas, test, labels, design);
  return out;
}

Json mean_feature_cosines(const std::vector<Signature>& personas, const IdentityDesign& design) {
  const size_t width = personas[0].features.size();
  std::vector<std::vector<double>> means(design.personas.size(), std::vector<double>(width, 0));
  for (const Signature& s : personas)  // a sum points where the mean does
    for (size_t f = 0; f < width; ++f) means[static_cast<size_t>(s.label)][f] += s.features[f];
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  Json out = Json::array();
  for (const auto& a : means) {
    Json row = Json::array();
    for (const auto& b : means) {
      const double length = std::sqrt(dot(a, a) * dot(b, b));
      row.push_back(length > 0 ? Json(dot(a, b) / length) : Json());
    }
    out.push_back(row);
  }
  return out;
}

}  // namespace kvlingua
