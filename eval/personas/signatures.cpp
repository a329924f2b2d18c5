#include "eval/personas/signatures.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "eval/geometry/comparison_json.h"
#include "eval/personas/classifiers.h"
#include "eval/personas/known_wordings.h"
#include "eval/statistics/agreement.h"
#include "eval/statistics/comparison.h"
#include "eval/statistics/effect_size.h"
#include "eval/statistics/resampling.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
constexpr double kPenalties[] = {1, 30, 1000};

at::Tensor matrix_of(const std::vector<Signature>& from, const std::vector<size_t>& rows) {
  const auto width = static_cast<int64_t>(from[0].features.size());
  const at::Tensor out = at::empty({static_cast<int64_t>(rows.size()), width}, at::kDouble);
  double* to = out.data_ptr<double>();
  for (const size_t r : rows) to = std::copy(from[r].features.begin(), from[r].features.end(), to);
  return out;
}

// One fold: which signatures are asked, and how the training labels become their scores.
struct Fold {
  std::vector<size_t> test, train;
  std::vector<at::Tensor> maps;  // [penalty] test x train; scores = mean(Y) + map (Y - mean(Y))
};

Fold make_fold(const std::vector<Signature>& all, int64_t wording, int64_t group) {
  Fold fold;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool same_wording = wording < 0 || all[i].wording == wording;
    const bool same_group = group < 0 || all[i].group == group;
    if (same_wording && same_group) fold.test.push_back(i);
    if ((wording < 0 || !same_wording) && (group < 0 || !same_group)) fold.train.push_back(i);
  }
  if (fold.test.empty() || fold.train.empty()) return fold;
  at::Tensor train = matrix_of(all, fold.train), test = matrix_of(all, fold.test);
  const at::Tensor mean = train.mean(0, true);
  at::Tensor deviation = train.std(0, false, true);
  deviation = at::where(deviation > 1e-12 * (1 + mean.abs()), deviation,
                        at::full_like(deviation, INFINITY));
  train = (train - mean) / deviation;
  test = (test - mean) / deviation;
  const at::Tensor gram = train.t().mm(train);
  const at::Tensor eye = at::eye(gram.size(0), gram.options());
  for (const double penalty : kPenalties)
    fold.maps.push_back(
        test.mm(at::cholesky_solve(train.t(), at::linalg_cholesky(gram + penalty * eye))));
  return fold;
}

// Predictions of one fold under one penalty for given labels of all signatures.
void predict(const Fold& fold, size_t penalty, const std::vector<int64_t>& labels, int64_t kinds,
             std::vector<int64_t>& out) {
  const at::Tensor y = at::zeros({static_cast<int64_t>(fold.train.size()), kinds}, at::kDouble);
  for (size_t i = 0; i < fold.train.size(); ++i)
    y.data_ptr<double>()[static_cast<int64_t>(i) * kinds + labels[fold.train[i]]] = 1;
  const at::Tensor mean = y.mean(0, true);
  const at::Tensor best = (fold.maps[penalty].mm(y - mean) + mean).argmax(1).contiguous();
  for (size_t i = 0; i < fold.test.size(); ++i)
    out[fold.test[i]] = best.const_data_ptr<int64_t>()[i];
}

struct Scored {
  double accuracy = -1;
  size_t penalty = 0;
  std::vector<double> by_penalty;
  std::vector<int64_t> predicted;
};
Scored score(const std::vector<Fold>& folds, const std::vector<int64_t>& labels, int64_t kinds) {
  Scored best;
  for (size_t p = 0; p < std::size(kPenalties); ++p) {
    std::vector<int64_t> predicted(labels.size(), -1);
    for (const Fold& fold : folds) predict(fold, p, labels, kinds, predicted);
    double right = 0;
    for (size_t i = 0; i < labels.size(); ++i) right += predicted[i] == labels[i];
    const double accuracy = right / static_cast<double>(labels.size());
    best.by_penalty.push_back(accuracy);
    if (accuracy > best.accuracy) {
      best.accuracy = accuracy;
      best.penalty = p;
      best.predicted = std::move(predicted);
    }
  }
  return best;
}

std::vector<Fold> folds_of(const std::vector<Signature>& all) {
  std::set<int64_t> wordings, groups;
  for (const Signature& s : all) wordings.insert(s.wording), groups.insert(s.group);
  if (wordings.size() < 2) wordings = {-1};
  if (groups.size() < 2) groups = {-1};
  if (wordings.contains(-1) && groups.contains(-1))
    throw Error({.code = ExitCode::kInput,
                 .where = "identity",
                 .what = "nothing can be left out",
                 .got = "one wording and one group of prompts",
                 .expected = "two wordings or two groups at least"});
  std::vector<Fold> folds;
  for (const int64_t wording : wordings)
    for (const int64_t group : groups) {
      folds.push_back(make_fold(all, wording, group));
      if (folds.back().maps.empty()) folds.pop_back();
    }
  return folds;
}

// Whole texts dealt anew: inside each wording the labels change places.
std::vector<int64_t> dealt(const std::vector<Signature>& all, int64_t kinds, Random& random) {
  std::map<int64_t, std::vector<int64_t>> deal;
  for (const Signature& s : all)
    if (!deal.contains(s.wording)) deal[s.wording] = {};
  for (auto& [wording, order] : deal) order = random.permutation(kinds);
  std::vector<int64_t> labels;
  for (const Signature& s : all) labels.push_back(deal[s.wording][static_cast<size_t>(s.label)]);
  return labels;
}

// right[text][prompt] as 0 or 1, texts and prompts resampled: the accuracy's draws.
std::vector<double> accuracy_draws(const std::vector<Signature>& all,
                                   const std::vector<int64_t>& predicted,
                                   const IdentityOptions& options, uint64_t stream) {
  Random random(mix(static_cast<uint64_t>(options.seed), stream));
  std::map<std::pair<int64_t, int64_t>, std::map<int64_t, double>> right;
  std::set<int64_t> prompts;
  for (size_t i = 0; i < all.size(); ++i) {
    right[{all[i].label, all[i].wording}][all[i].prompt] = predicted[i] == all[i].label;
    prompts.insert(all[i].prompt);
  }
  std::vector<std::vector<double>> table;  // NaN: not measured
  for (const auto& [text, row] : right) {
    table.emplace_back();
    for (const int64_t prompt : prompts)
      table.back().push_back(row.contains(prompt) ? row.at(prompt) : NAN);
  }
  std::vector<double> out;
  const size_t width = prompts.size();
  std::vector<size_t> columns(width);
  for (int64_t d = 0; d < options.bootstrap; ++d) {
    for (size_t& c : columns) c = random.below(width);
    double sum = 0, n = 0;
    for (size_t t = 0; t < table.size(); ++t) {
      const auto& row = table[random.below(table.size())];
      for (const size_t c : columns)
        if (!std::isnan(row[c])) sum += row[c], n += 1;
    }
    out.push_back(n > 0 ? sum / n : NAN);
  }
  return out;
}

Json interval_of(double estimate, std::vector<double> draws, double confidence) {
  std::sort(draws.begin(), draws.end());
  const double tail = (1 - confidence) / 2;
  return {{"estimate", estimate},
          {"low", stats::quantile(draws, tail)},
          {"high", stats::quantile(draws, 1 - tail)}};
}

double total_key_norm(const Signature& s) {
  double sum = 0;
  for (size_t i = 0; i < s.features.size(); i += kLayerFeatures.size()) sum += s.features[i];
  return sum;
}

// Of a mean, by the bootstrap.
Json mean_ci(const std::vector<double>& values, const IdentityOptions& options) {
  if (values.size() < 5) return nullptr;
  const stats::Interval interval =
      stats::bootstrap(static_cast<int64_t>(values.size()),
                       [&](const std::vector<int64_t>& drawn) {
                         double sum = 0;
                         for (const int64_t i : drawn) sum += values[static_cast<size_t>(i)];
                         return sum / static_cast<double>(drawn.size());
                       },
                       {.resamples = options.bootstrap,
                        .confidence = options.confidence,
                        .seed = static_cast<uint64_t>(options.seed),
                        .groups = {}});
  return {interval.low, interval.high};
}

Json fingerprints(const std::vector<Signature>& personas, const IdentityDesign& design,
                  const IdentityOptions& options) {
  Json out = Json::object();
  for (size_t p = 0; p < design.personas.size(); ++p) {
    std::vector<double> norms, lengths;
    for (const Signature& s : personas)
      if (s.label == static_cast<int64_t>(p))
        norms.push_back(total_key_norm(s)), lengths.push_back(s.length);
    const stats::Moments m = stats::moments(norms);
    out[design.personas[p].key] = {{"name", design.personas[p].name},
                                   {"n", m.n},
                                   {"mean", m.mean},
                                   {"std", m.deviation},
                                   {"norm_ci", mean_ci(norms, options)},
                                   {"mean_cache_tokens", stats::moments(lengths).mean}};
  }
  return out;
}

Json pairwise(const std::vector<Signature>& personas, const IdentityDesign& design,
              const IdentityOptions& options) {
  std::vector<stats::LengthGroup> groups(design.personas.size());
  for (const Signature& s : personas) {
    groups[static_cast<size_t>(s.label)].values.push_back(total_key_norm(s));
    groups[static_cast<size_t>(s.label)].lengths.push_back(s.length);
  }
  Json out = Json::object();
  std::vector<std::string> keys;
  std::vector<double> p;
  for (size_t a = 0; a < groups.size(); ++a)
    for (size_t b = a + 1; b < groups.size(); ++b) {
      if (groups[a].values.size() < 2 || groups[b].values.size() < 2) continue;
      const stats::ComparisonOptions how{options.bootstrap, options.confidence,
                                         static_cast<uint64_t>(options.seed)};
      const stats::Comparison raw = stats::compare(groups[a].values, groups[b].values, how);
      const stats::AdjustedEffect adjusted = stats::adjusted_effect(groups, a, b, how);
      keys.push_back(cat(design.personas[a].key, "_vs_", design.personas[b].key));
      Json& row = out[keys.back()] = comparison_json(raw);
      row["length_adjusted"] = interval_json(adjusted.d);
      row["length_only_d"] = adjusted.length_d;
      p.push_back(raw.conservative_p);
    }
  const std::vector<double> corrected = stats::holm(p);
  for (size_t i = 0; i < keys.size(); ++i) out[keys[i]]["p_holm"] = corrected[i];
  return {{"pairwise_norm_comparisons", out},
          {"holm_bonferroni", corrections_json(keys, p, corrected)}};
}

Json consistency(const std::vector<Signature>& personas, const IdentityDesign& design) {
  std::map<int64_t, std::vector<std::vector<double>>> by_prompt;  // [prompt][persona] norms
  for (const Signature& s : personas) {
    auto& row = by_prompt[s.prompt];
    row.resize(design.personas.size());
    row[static_cast<size_t>(s.label)].push_back(total_key_norm(s));
  }
  stats::Ratings table(design.personas.size());
  for (const auto& [prompt, row] : by_prompt) {
    if (std::ranges::any_of(row, [](const auto& v) { return v.empty(); })) continue;
    for (size_t p = 0; p < row.size(); ++p) table[p].push_back(stats::moments(row[p]).mean);
  }
  if (table[0].size() < 2) return nullptr;
  const stats::VarianceRatio ratio = stats::variance_ratio(table);
  const stats::Interval icc = stats::icc_two_way(table);
  const stats::TestResult w = stats::kendall_w(table);
  Json means = Json::object();
  for (size_t p = 0; p < table.size(); ++p)
    means[design.personas[p].key] = stats::moments(table[p]).mean;
  return {{"between_persona_variance", ratio.between},
          {"mean_within_persona_variance", ratio.within},
          {"variance_ratio", ratio.ratio},
          {"icc", ratio.icc},
          {"icc_2_1", {{"estimate", icc.estimate}, {"low", icc.low}, {"high", icc.high}}},
          {"kendall_w", {{"w", w.statistic}, {"p_value", w.p}}},
          {"persona_means", means},
          {"h4_test", {{"icc_above_half", ratio.icc > 0.5}}}};
}

Json confusion(const std::vector<Signature>& all, const LeaveOut& result, int64_t kinds) {
  std::vector<std::vector<int64_t>> matrix(static_cast<size_t>(kinds),
                                           std::vector<int64_t>(static_cast<size_t>(kinds), 0));
  for (size_t i = 0; i < all.size(); ++i)
    if (result.predicted[i] >= 0)
      ++matrix[static_cast<size_t>(all[i].label)][static_cast<size_t>(result.predicted[i])];
  return matrix;
}

// Accuracy of each other classifier over the headline's folds.
Json extras_of(const std::vector<Signature>& all, int64_t kinds, const IdentityOptions& options,
               const std::function<std::vector<double>(const LeaveOut&, uint64_t)>& draws) {
  Json out = Json::object();
  uint64_t stream = 20;
  for (const std::string& name : classifier_names()) {
    LeaveOut result;
    result.predicted.assign(all.size(), -1);
    for (const Fold& fold : folds_of(all)) {
      const auto predicted = classified(name, all, fold.train, fold.test, kinds, options);
      for (size_t i = 0; i < fold.test.size(); ++i) result.predicted[fold.test[i]] = predicted[i];
    }
    for (size_t i = 0; i < all.size(); ++i)
      result.accuracy += (result.predicted[i] == all[i].label) / static_cast<double>(all.size());
    out[name] = interval_of(result.accuracy, draws(result, stream++), options.confidence);
  }
  return out;
}

// Components of standardised features, and how far each pair of personas lies apart on the first.
Json components_of(const std::vector<Signature>& all, const IdentityDesign& design) {
  FeatureRows rows;
  for (const Signature& s : all) rows.push_back(s.features);
  const PrincipalComponents found = principal_components(rows);
  std::vector<std::vector<double>> first(design.personas.size());
  for (size_t i = 0; i < all.size(); ++i)
    if (!found.scores[i].empty())
      first[static_cast<size_t>(all[i].label)].push_back(found.scores[i][0]);
  Json pairs = Json::object();
  for (size_t a = 0; a < first.size(); ++a)
    for (size_t b = a + 1; b < first.size(); ++b)
      if (first[a].size() > 1 && first[b].size() > 1)
        pairs[cat(design.personas[a].key, "_vs_", design.personas[b].key)] =
            stats::cohens_d(first[a], first[b]);
  return {{"scaled", true}, {"explained_variance_ratio", found.explained}, {"pc1_d", pairs}};
}

std::vector<Signature> only_layers(std::vector<Signature> all, const std::vector<size_t>& layers) {
  for (Signature& s : all) {
    std::vector<double> kept;
    for (const size_t l : layers)
      for (size_t kind = 0; kind < kLayerFeatures.size(); ++kind)
        kept.push_back(s.features[l * kLayerFeatures.size() + kind]);
    s.features = std::move(kept);
  }
  return all;
}

// One of a layer's features, of every layer.
std::vector<Signature> only_kind(std::vector<Signature> all, size_t kind) {
  for (Signature& s : all) {
    std::vector<double> kept;
    for (size_t f = kind; f < s.features.size(); f += kLayerFeatures.size())
      kept.push_back(s.features[f]);
    s.features = std::move(kept);
  }
  return all;
}

Json row_json(const LeaveOut& result, std::vector<double> draws, double confidence) {
  Json out = interval_of(result.accuracy, std::move(draws), confidence);
  out["penalty"] = result.penalty;
  return out;
}

}  // namespace

std::vector<double> signature_features(const CacheGeometry& g) {
  std::vector<double> out;
  for (size_t l = 0; l < g.keys.norm.size(); ++l)
    out.insert(out.end(), {g.keys.norm[l], g.values.norm[l], g.keys.mean[l], g.values.mean[l],
                           g.keys.deviation[l], g.values.deviation[l]});
  return out;
}

std::vector<int64_t> classified(const std::string& name, const std::vector<Signature>& all,
                                const std::vector<size_t>& train, const std::vector<size_t>& test,
                                int64_t kinds, const IdentityOptions& options) {
  FeatureRows rows, asked;
  std::vector<int64_t> labels;
  for (const size_t i : train) rows.push_back(all[i].features), labels.push_back(all[i].label);
  for (const size_t i : test) asked.push_back(all[i].features);
  return classify(name, rows, labels, kinds, asked,
                  {options.trees, static_cast<uint64_t>(options.seed)});
}

Json accuracy_interval(const std::vector<Signature>& signatures,
                       const std::vector<int64_t>& predicted, const IdentityOptions& options,
                       uint64_t stream) {
  double right = 0;
  for (size_t i = 0; i < signatures.size(); ++i) right += predicted[i] == signatures[i].label;
  return interval_of(right / static_cast<double>(signatures.size()),
                     accuracy_draws(signatures, predicted, options, stream), options.confidence);
}

LeaveOut leave_out(const std::vector<Signature>& signatures, int64_t kinds, int64_t permutations,
                   uint64_t seed) {
  const std::vector<Fold> folds = folds_of(signatures);
  std::vector<int64_t> labels;
  for (const Signature& s : signatures) labels.push_back(s.label);
  Scored best = score(folds, labels, kinds);
  LeaveOut out{
      best.accuracy, kPenalties[best.penalty], best.by_penalty, std::move(best.predicted), {}, 1};
  Random random(seed);
  int64_t as_high = 0;
  for (int64_t i = 0; i < permutations; ++i) {
    out.null.push_back(score(folds, dealt(signatures, kinds, random), kinds).accuracy);
    as_high += out.null.back() >= out.accuracy - 1e-12;
  }
  if (permutations > 0)
    out.p = static_cast<double>(as_high + 1) / static_cast<double>(permutations + 1);
  return out;
}

std::vector<Signature> without_length(std::vector<Signature> all) {
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> texts;
  double overall = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    texts[{all[i].label, all[i].wording}].push_back(i);
    overall += all[i].length / static_cast<double>(all.size());
  }
  for (size_t f = 0; f < all[0].features.size(); ++f) {
    std::vector<stats::LengthGroup> groups;
    for (const auto& [text, rows] : texts) {
      groups.emplace_back();
      for (const size_t r : rows) {
        groups.back().values.push_back(all[r].features[f]);
        groups.back().lengths.push_back(all[r].length);
      }
    }
    const stats::LengthCurve curve = stats::length_curve(groups);
    for (Signature& s : all) s.features[f] -= curve.at(s.length) - curve.at(overall);
  }
  return all;
}

std::vector<Signature> only_length(std::vector<Signature> all) {
  for (Signature& s : all) s.features = {s.length};
  return all;
}

namespace {

Json permutation_json(const LeaveOut& headline, const IdentityOptions& options) {
  const bool tested = !headline.null.empty();
  return {{"n_permutations", options.permutations},
          {"actual_score", headline.accuracy},
          {"null_mean", tested ? stats::moments(headline.null).mean : 0},
          {"null_std", tested ? stats::moments(headline.null).deviation : 0},
          {"p_value", options.permutations > 0 ? Json(headline.p) : Json()},
          {"significant", options.permutations > 0 && headline.p <= 0.05}};
}

// By the headline's folds: each layer alone, the best of them together, and each kind of feature
// over all layers. How concentrated it is says little where layers agree: with ten or more alike
// the five best cannot hold half of the summed accuracies.
Json layer_analysis(const std::vector<Signature>& free, int64_t kinds, uint64_t seed) {
  constexpr size_t kTop = 5, kMost = 10;
  const size_t count = free[0].features.size() / kLayerFeatures.size();
  std::vector<double> accuracy;
  Json per_layer = Json::array(), ranked = Json::array(), cumulative = Json::array(),
       by_kind = Json::object();
  for (size_t l = 0; l < count; ++l) {
    accuracy.push_back(leave_out(only_layers(free, {l}), kinds, 0, seed).accuracy);
    per_layer.push_back({{"layer", l}, {"accuracy", accuracy.back()}});
  }
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t l) { return accuracy[l]; });
  double top = 0, sum = 0;
  for (size_t i = 0; i < count; ++i) {
    ranked.push_back({{"layer", order[i]}, {"accuracy", accuracy[order[i]]}});
    sum += accuracy[order[i]];
    if (i < kTop) top += accuracy[order[i]];
    if (i >= kMost) continue;
    const std::vector<size_t> best(order.begin(), order.begin() + static_cast<int64_t>(i) + 1);
    cumulative.push_back(
        {{"n_layers", i + 1},
         {"layers", best},
         {"accuracy", leave_out(only_layers(free, best), kinds, 0, seed).accuracy}});
  }
  for (size_t kind = 0; kind < kLayerFeatures.size(); ++kind)
    by_kind[kLayerFeatures[kind]] = leave_out(only_kind(free, kind), kinds, 0, seed).accuracy;
  const double share = sum > 0 ? top / sum : 0;
  return {{"per_layer_accuracy", per_layer},
          {"ranked_layers", ranked},
          {"h3_test",
           {{"top_layers", std::min(kTop, count)},
            {"top5_share", share},
            {"share_if_all_alike",
             static_cast<double>(std::min(kTop, count)) / static_cast<double>(count)},
            {"concentrated", count > kTop && share > 0.5}}},
          {"cumulative_ablation", cumulative},
          {"feature_type_importance", by_kind}};
}

// "identity" where the headline is above each of `above` and above chance, "none" where it is
// within the margin of one of them.
Json verdict_of(const IdentityDesign& design, bool topics, const LeaveOut& headline,
                const Json& above, const IdentityOptions& options) {
  std::string verdict = "undecided", reason;
  bool beats = design.wordings() > 1 && topics && headline.p <= 0.05, none = false;
  for (const auto& [name, interval] : above.items()) {
    beats = beats && interval["low"].get<double>() > 0;
    none = none || interval["high"].get<double>() < options.margin;
  }
  if (design.wordings() < 2)
    reason = "one wording a persona: a text cannot be told from who it describes";
  else if (!topics)
    reason = "no neutral topics to compare with";
  else if (options.permutations == 0)
    reason = "no permutation test";
  else if (beats)
    verdict = "identity";
  else if (none)
    verdict = "none";
  return {{"identity", verdict}, {"reason", reason}};
}

// Who a signature is of, told from it: the headline's accuracy beside what it must beat.
class Classification {
 public:
  Classification(const std::vector<Signature>& personas, const std::vector<Signature>& topics,
                 const IdentityDesign& design, const IdentityOptions& options)
      : personas_(personas),
        free_(without_length(personas)),
        design_(design),
        options_(options),
        kinds_(static_cast<int64_t>(design.personas.size())),
        seed_(static_cast<uint64_t>(options.seed)),
        headline_(leave_out(free_, kinds_, options.permutations, mix(seed_, 7))) {
    add_row("personas_raw", personas, leave_out(personas, kinds_, 0, seed_), 1);
    add_row("personas", free_, headline_, 2);
    const LeaveOut length = leave_out(only_length(personas), kinds_, 0, seed_);
    add_row("length_only", personas, length, 3);
    add_difference("length_only", personas, length, 3);
    if (!topics.empty()) add_topics(without_length(topics));
    add_group_out_only();
  }

  Json to_json() const {
    Json extras = Json::object();
    if (options_.extras)
      extras = extras_of(free_, kinds_, options_, [&](const LeaveOut& r, uint64_t stream) {
        return draws(free_, r, stream);
      });
    Json json = {
        {"headline", "ridge, length taken out, one wording and one group of prompts left out"},
        {"rows", rows_},
        {"above", above_},
        {"extras", extras},
        {"confusion_matrix", confusion(free_, headline_, kinds_)},
        {"permutation_test", permutation_json(headline_, options_)},
        {"chance_level", 1.0 / static_cast<double>(kinds_)}};
    if (options_.extras) json.update(known_wording_classification(personas_, design_, options_));
    return json;
  }

  const std::vector<Signature>& without_their_length() const { return free_; }
  const LeaveOut& headline() const { return headline_; }
  const Json& above() const { return above_; }

 private:
  std::vector<double> draws(const std::vector<Signature>& all, const LeaveOut& r,
                            uint64_t stream) const {
    return accuracy_draws(all, r.predicted, options_, stream);
  }

  void add_row(const char* name, const std::vector<Signature>& all, const LeaveOut& result,
               uint64_t stream) {
    rows_[name] = row_json(result, draws(all, result, stream), options_.confidence);
  }

  // By how much the headline's accuracy lies above another's.
  void add_difference(const char* name, const std::vector<Signature>& other, const LeaveOut& result,
                      uint64_t stream) {
    std::vector<double> a = draws(free_, headline_, 2);
    const std::vector<double> b = draws(other, result, stream);
    for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
    above_[name] =
        interval_of(headline_.accuracy - result.accuracy, std::move(a), options_.confidence);
  }

  void add_topics(const std::vector<Signature>& topics) {
    const auto kinds = static_cast<int64_t>(design_.topics.size());
    const LeaveOut neutral = leave_out(topics, kinds, 0, seed_);
    add_row("neutral_topics", topics, neutral, 4);
    add_difference("neutral_topics", topics, neutral, 4);
  }

  // The design the users' scripts have: wordings known, groups of prompts left out.
  void add_group_out_only() {
    std::vector<Signature> known = free_;
    for (Signature& s : known) s.wording = 0;
    std::set<int64_t> groups;
    for (const Signature& s : known) groups.insert(s.group);
    if (groups.size() > 1)
      add_row("leave_group_out_only", free_, leave_out(known, kinds_, 0, seed_), 5);
  }

  const std::vector<Signature>& personas_;
  const std::vector<Signature> free_;  // their length taken out
  const IdentityDesign& design_;
  const IdentityOptions& options_;
  const int64_t kinds_;
  const uint64_t seed_;
  const LeaveOut headline_;
  Json rows_ = Json::object(), above_ = Json::object();
};

}  // namespace

Json analyse_signatures(const std::vector<Signature>& personas,
                        const std::vector<Signature>& topics, const IdentityDesign& design,
                        const IdentityOptions& options) {
  const Classification classification(personas, topics, design, options);
  const std::vector<Signature>& free = classification.without_their_length();
  Json pairs = pairwise(personas, design, options);
  pairs["pca_analysis"] = components_of(free, design);
  pairs["cosine_similarity_matrix"] = mean_feature_cosines(personas, design);
  return {{"fingerprinting",
           {{"persona_stats", fingerprints(personas, design, options)},
            {"total_samples", personas.size()}}},
          {"classification", classification.to_json()},
          {"pairwise_analysis", pairs},
          {"layer_analysis", layer_analysis(free, static_cast<int64_t>(design.personas.size()),
                                            static_cast<uint64_t>(options.seed))},
          {"consistency", consistency(personas, design)},
          {"verdict", verdict_of(design, !topics.empty(), classification.headline(),
                                 classification.above(), options)}};
}

}  // namespace kvlingua
