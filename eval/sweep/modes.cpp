#include "eval/sweep/modes.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "eval/geometry/comparison_json.h"
#include "eval/statistics/comparison.h"
#include "eval/statistics/resampling.h"
#include "eval/statistics/tests.h"
#include "eval/sweep/trend.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

// The three features that are compared, with the ending of their keys.
struct Feature {
  const char* suffix;
  const char* name;
  double (*of)(const Measurement&);
};
double norm_of(const Measurement& m) { return total(m.geometry.keys.norm); }
double per_token_of(const Measurement& m) {
  return norm_of(m) / static_cast<double>(m.input_tokens);
}
double rank_of(const Measurement& m) { return mean(m.geometry.keys.rank); }
constexpr Feature kFeatures[] = {{"", "total key norm", norm_of},
                                 {"_per_token", "key norm per input token", per_token_of},
                                 {"_eff_rank", "mean key effective rank", rank_of}};

const MeasuredCategory* find(const MeasuredScale& measured, const std::string& name) {
  for (const MeasuredCategory& category : measured.categories)
    if (category.name == name) return &category;
  return nullptr;
}

std::vector<double> column(const MeasuredCategory& category,
                           const std::function<double(const Measurement&)>& of) {
  std::vector<double> values;
  for (const Measurement& m : category.prompts)
    if (m.ok()) values.push_back(of(m));
  return values;
}
double length_of(const Measurement& m) { return static_cast<double>(m.cache_tokens); }

// Percentile interval of a mean, as the users print it; nothing below five values.
Json mean_interval(const std::vector<double>& values, const SweepOptions& options) {
  if (values.size() < 5) return nullptr;
  Random random(static_cast<uint64_t>(options.seed));
  std::vector<double> draws;
  for (int64_t i = 0; i < options.bootstrap; ++i) {
    double sum = 0;
    for (size_t k = 0; k < values.size(); ++k) sum += values[random.below(values.size())];
    draws.push_back(sum / static_cast<double>(values.size()));
  }
  std::sort(draws.begin(), draws.end());
  const double tail = (1 - options.confidence) / 2;
  return {{"estimate", stats::moments(values).mean},
          {"ci_lower", stats::quantile(draws, tail)},
          {"ci_upper", stats::quantile(draws, 1 - tail)}};
}

Json summary_of(const MeasuredCategory& category, const SweepOptions& options) {
  const auto norms = column(category, norm_of), per_token = column(category, per_token_of);
  const auto ranks = column(category, rank_of);
  const auto entropies =
      column(category, [](const Measurement& m) { return mean(m.geometry.keys.entropy); });
  const auto value_ranks =
      column(category, [](const Measurement& m) { return mean(m.geometry.values.rank); });
  const auto lengths = column(category, length_of);
  const auto inputs =
      column(category, [](const Measurement& m) { return static_cast<double>(m.input_tokens); });
  const stats::Moments norm = stats::moments(norms), token = stats::moments(per_token);
  const stats::Moments rank = stats::moments(ranks);
  return {{"n", norm.n},
          {"repeated_prompts", category.repeated},
          {"mean_norm", norm.mean},
          {"std_norm", norm.deviation},
          {"median_norm", norm.median},
          {"min_norm", norm.low},
          {"max_norm", norm.high},
          {"mean_norm_per_token", token.mean},
          {"std_norm_per_token", token.deviation},
          {"mean_key_rank", rank.mean},
          {"std_key_rank", rank.deviation},
          {"mean_key_entropy", stats::moments(entropies).mean},
          {"mean_value_rank", stats::moments(value_ranks).mean},
          {"mean_input_tokens", stats::moments(inputs).mean},
          {"mean_cache_tokens", stats::moments(lengths).mean},
          {"norm_ci", mean_interval(norms, options)},
          {"norm_per_token_ci", mean_interval(per_token, options)},
          {"key_rank_ci", mean_interval(ranks, options)},
          {"key_entropy_ci", mean_interval(entropies, options)},
          {"normality", normality_json(stats::shapiro_wilk(norms))}};
}

Json battery_of(const MeasuredCategory& category) {
  const auto of = [&](double (*f)(const Measurement&)) { return column(category, f); };
  Json failed = Json::array();
  for (const Measurement& m : category.prompts)
    if (!m.ok()) failed.push_back({{"prompt", m.id}, {"reason", m.failure}});
  const auto norms = of(norm_of);
  return {
      {"n_observations", norms.size()},
      {"all_norms", norms},
      {"all_norms_per_token", of(per_token_of)},
      {"all_key_ranks", of(rank_of)},
      {"all_key_entropies", of([](const Measurement& m) { return mean(m.geometry.keys.entropy); })},
      {"all_value_ranks", of([](const Measurement& m) { return mean(m.geometry.values.rank); })},
      {"all_value_norms", of([](const Measurement& m) { return total(m.geometry.values.norm); })},
      {"all_key_norm_variances",
       of([](const Measurement& m) { return population_variance(m.geometry.keys.norm); })},
      {"all_value_norm_variances",
       of([](const Measurement& m) { return population_variance(m.geometry.values.norm); })},
      {"all_norms_per_cached_token",
       of([](const Measurement& m) { return norm_of(m) / length_of(m); })},
      {"input_tokens",
       of([](const Measurement& m) { return static_cast<double>(m.input_tokens); })},
      {"cache_tokens", of(length_of)},
      {"failed_prompts", failed}};
}

// One of the 27: raw, adjusted, and what length alone does.
struct Compared {
  std::string key;
  const ModePair* pair;
  const Feature* feature;
  stats::Comparison raw;
  stats::AdjustedEffect adjusted;
};

// Fewer prompts of either category inside the other's range of lengths decide nothing.
constexpr int64_t kOverlap = 3;

double threshold_of(const std::string& key) {
  if (key == "self_ref_effect") return 0.3;
  if (key == "refusal_vs_rote" || key == "refusal_vs_free") return 0.5;
  return 0.2;  // what is called negligible below
}

Json compared_json(const Compared& c, double holm_raw, double holm_adjusted) {
  const stats::Comparison& raw = c.raw;
  const double threshold = threshold_of(c.pair->key);
  stats::Shown shown = stats::beyond(c.adjusted.d, threshold);
  if (shown == stats::Shown::kYes && holm_adjusted > 0.05) shown = stats::Shown::kUndecided;
  // Lengths that hardly meet leave nothing but extrapolation.
  const bool apart = c.adjusted.overlap < kOverlap;
  if (apart) shown = stats::Shown::kUndecided;
  const bool raw_shown = stats::beyond(raw.d, threshold) == stats::Shown::kYes && holm_raw <= 0.05;
  Json adjusted = interval_json(c.adjusted.d);
  adjusted["p_value"] = c.adjusted.p;
  adjusted["p_holm"] = holm_adjusted;
  adjusted["slope_per_token"] = c.adjusted.curve.slope;
  adjusted["bend_per_token"] = c.adjusted.curve.bend;
  adjusted["prompts_of_overlapping_length"] = c.adjusted.overlap;
  adjusted["lengths_apart"] = apart;
  Json out = {{"label", c.pair->label},
              {"cat1", c.pair->first},
              {"cat2", c.pair->second},
              {"feature", c.feature->name}};
  const Json judged = {{"p_holm", holm_raw},
                       {"length_adjusted", adjusted},
                       {"length_only_d", c.adjusted.length_d},
                       {"threshold", threshold},
                       {"verdict", stats::to_string(shown)},
                       {"length_artefact", raw_shown && shown != stats::Shown::kYes}};
  out.update(comparison_json(raw));
  out.update(judged);
  return out;
}

struct Family {
  std::vector<Compared> compared;
  Json missing = Json::object();  // comparisons that could not be made, and why
};

Family compare_all(const MeasuredScale& measured, const SweepOptions& options) {
  Family family;
  for (const Feature& feature : kFeatures) {
    std::vector<stats::LengthGroup> groups;
    std::map<std::string, size_t> index;
    for (const MeasuredCategory& category : measured.categories) {
      index[category.name] = groups.size();
      groups.push_back({column(category, feature.of), column(category, length_of)});
    }
    for (const ModePair& pair : mode_pairs()) {
      const std::string key = std::string(pair.key) + feature.suffix;
      const auto a = index.find(pair.first), b = index.find(pair.second);
      if (a == index.end() || b == index.end()) {
        family.missing[key] = cat("not measured: ", a == index.end() ? pair.first : pair.second);
        continue;
      }
      const stats::LengthGroup &first = groups[a->second], &second = groups[b->second];
      if (first.values.size() < 2 || second.values.size() < 2) {
        family.missing[key] = "fewer than two prompts in a category";
        continue;
      }
      const stats::ComparisonOptions how{options.bootstrap, options.confidence,
                                         mix(static_cast<uint64_t>(options.seed), hash_name(key))};
      family.compared.push_back({key, &pair, &feature,
                                 stats::compare(first.values, second.values, how),
                                 stats::adjusted_effect(groups, a->second, b->second, how)});
    }
  }
  return family;
}

// Over all tests of the family.
Json family_corrections(const Family& family, const std::vector<double>& corrected) {
  std::vector<std::string> keys;
  std::vector<double> p;
  for (const Compared& c : family.compared) {
    keys.push_back(c.key);
    p.push_back(c.raw.conservative_p);
  }
  return corrections_json(keys, p, corrected);
}

Json power_json(const Family& family) {
  int64_t n = 0;
  for (const Compared& c : family.compared) {
    const int64_t smaller = std::min(c.raw.a.n, c.raw.b.n);
    n = n == 0 ? smaller : std::min(n, smaller);
  }
  Json power = {{"n_per_category", n}};
  for (const double d : {0.3, 0.5, 0.8}) {
    const double value = n > 1 ? stats::power_two_samples(d, n, n) : 0;
    char key[16];
    std::snprintf(key, sizeof key, "d_%.1f", d);
    power[key] = {{"power", value}, {"adequate", value >= 0.8}};
  }
  return power;
}

Json hypothesis(const Json& pairs, const std::string& key, const std::string& name) {
  Json out = {{"hypothesis", name}};
  for (const Feature& feature : kFeatures) {
    const std::string full = key + feature.suffix;
    if (!pairs.contains(full) || pairs[full].contains("error")) continue;
    const Json& p = pairs[full];
    const double d = p["cohens_d"]["d"];
    out[*feature.suffix == 0 ? "norm" : feature.suffix + 1] = {
        {"d", d},
        {"ci", {p["cohens_d"]["ci_lower"], p["cohens_d"]["ci_upper"]}},
        {"p_value", p["recommended_p"]},
        {"direction", d > 0   ? "higher"
                      : d < 0 ? "lower"
                              : "equal"},
        {"length_adjusted", p["length_adjusted"]},
        {"threshold", p["threshold"]},
        {"verdict", p["verdict"]},
        {"length_artefact", p["length_artefact"]}};
  }
  return out;
}

// r of the features with length over all prompts: how much of each is length.
Json length_json(const MeasuredScale& measured) {
  std::vector<double> lengths;
  for (const MeasuredCategory& c : measured.categories)
    for (const double v : column(c, length_of)) lengths.push_back(v);
  Json out = Json::object();
  for (const Feature& feature : kFeatures) {
    std::vector<double> values;
    for (const MeasuredCategory& c : measured.categories)
      for (const double v : column(c, feature.of)) values.push_back(v);
    const stats::Moments x = stats::moments(lengths), y = stats::moments(values);
    double product = 0;
    for (size_t i = 0; i < values.size(); ++i)
      product += (lengths[i] - x.mean) * (values[i] - y.mean);
    const double scale = x.deviation * y.deviation * static_cast<double>(values.size() - 1);
    out[*feature.suffix == 0 ? "norm" : feature.suffix + 1] =
        values.size() > 2 && scale > 0 ? Json(product / scale) : Json();
  }
  return out;
}

Json ranking_of(const Json& summaries) {
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [name, s] : summaries.items())
    if (s["n"].get<int64_t>() > 0) order.emplace_back(-s["mean_norm"].get<double>(), name);
  std::ranges::stable_sort(order);
  Json ranking = Json::array(), names = Json::array();
  for (const auto& [negative, name] : order) {
    ranking.push_back({{"category", name}, {"mean_norm", -negative}});
    names.push_back(name);
  }
  return {{"ranking", ranking}, {"rank_order", names}};
}

Json layers_json(const MeasuredScale& measured) {
  Json out = Json::object();
  for (const MeasuredCategory& category : measured.categories) {
    std::vector<double> norm(static_cast<size_t>(measured.num_layers), 0), rank = norm;
    double n = 0;
    for (const Measurement& m : category.prompts) n += m.ok() ? 1 : 0;
    for (const Measurement& m : category.prompts) {
      if (!m.ok()) continue;
      for (size_t l = 0; l < norm.size(); ++l) {
        norm[l] += m.geometry.keys.norm[l] / n;
        rank[l] += m.geometry.keys.rank[l] / n;
      }
    }
    if (n > 0) out[category.name] = {{"key_norm", norm}, {"key_rank", rank}};
  }
  return out;
}

// Category means of total key norm, in `names`' order, of prompts dealt out by `order`.
std::vector<double> dealt_means(const std::vector<double>& values,
                                const std::vector<int64_t>& order,
                                const std::vector<size_t>& sizes) {
  std::vector<double> means;
  size_t at = 0;
  for (const size_t size : sizes) {
    double sum = 0;
    for (size_t k = 0; k < size; ++k) sum += values[static_cast<size_t>(order[at++])];
    means.push_back(sum / static_cast<double>(size));
  }
  return means;
}

// Prompts both scales measured, by category.
struct Shared {
  std::vector<std::string> names;
  std::vector<size_t> sizes;
  std::vector<double> first, second;  // total key norms, category by category
};
Shared shared_prompts(const MeasuredScale& a, const MeasuredScale& b) {
  Shared out;
  for (const MeasuredCategory& category : a.categories) {
    const MeasuredCategory* other = find(b, category.name);
    if (other == nullptr) continue;
    std::map<std::string, double> norms;
    for (const Measurement& m : other->prompts)
      if (m.ok()) norms[m.id] = norm_of(m);
    size_t size = 0;
    for (const Measurement& m : category.prompts) {
      const auto at = norms.find(m.id);
      if (!m.ok() || at == norms.end()) continue;
      out.first.push_back(norm_of(m));
      out.second.push_back(at->second);
      ++size;
    }
    if (size == 0) continue;
    out.names.push_back(category.name);
    out.sizes.push_back(size);
  }
  return out;
}

Json correlate(const MeasuredScale& a, const MeasuredScale& b, const SweepOptions& options) {
  const Shared shared = shared_prompts(a, b);
  Json out = {
      {"scale1", a.scale.key}, {"scale2", b.scale.key}, {"n_categories", shared.names.size()}};
  if (shared.names.size() < 4) {
    out["error"] = "fewer than four categories in common";
    return out;
  }
  const auto n = static_cast<int64_t>(shared.first.size());
  std::vector<int64_t> as_is(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) as_is[static_cast<size_t>(i)] = i;
  const auto rho_of = [&](const std::vector<int64_t>& order) {
    return stats::spearman(dealt_means(shared.first, order, shared.sizes),
                           dealt_means(shared.second, order, shared.sizes));
  };
  const stats::TestResult rho = rho_of(as_is);
  // The scales share their prompts: shuffle those over categories, the same way in both.
  Random random(mix(static_cast<uint64_t>(options.seed), 1));
  int64_t as_high = 0;
  for (int64_t i = 0; i < options.permutations; ++i)
    as_high += rho_of(random.permutation(n)).statistic >= rho.statistic - 1e-12;
  // Prompts resampled inside their category, the same in both scales.
  std::vector<double> draws;
  for (int64_t i = 0; i < options.permutations; ++i) {
    std::vector<int64_t> order;
    int64_t begin = 0;
    for (const size_t size : shared.sizes) {
      for (size_t k = 0; k < size; ++k)
        order.push_back(begin + static_cast<int64_t>(random.below(size)));
      begin += static_cast<int64_t>(size);
    }
    draws.push_back(rho_of(order).statistic);
  }
  std::sort(draws.begin(), draws.end());
  const double tail = (1 - options.confidence) / 2;
  out["rho"] = rho.statistic;
  out["p_value"] = rho.p;
  out["p_prompts_permuted"] =
      static_cast<double>(as_high + 1) / static_cast<double>(options.permutations + 1);
  out["low"] = stats::quantile(draws, tail);
  out["high"] = stats::quantile(draws, 1 - tail);
  out["invariant"] = rho.statistic > 0.7 && rho.p < 0.05;
  return out;
}

// From the interval of the mean correlation, where the users' rule reads its estimate alone.
Json h4_of(const Json& correlations) {
  double rho = 0, low = 0, high = 0, n = 0;
  for (const Json& c : correlations) {
    if (c.contains("error")) continue;
    rho += c["rho"].get<double>(), low += c["low"].get<double>(), high += c["high"].get<double>();
    n += 1;
  }
  if (n == 0) return {{"verdict", "undecided"}, {"reason", "no pair of scales to compare"}};
  rho /= n, low /= n, high /= n;
  return {{"mean_rho", rho},
          {"low", low},
          {"high", high},
          {"verdict", low > 0.7    ? "invariant"
                      : high < 0.3 ? "rejected"
                                   : "undecided"},
          {"by_estimate_alone", rho > 0.7   ? "invariant"
                                : rho < 0.3 ? "rejected"
                                            : "partial"}};
}

double size_of(const MeasuredScale& m) {
  return m.scale.billions > 0 ? m.scale.billions : static_cast<double>(m.parameters) / 1e9;
}

}  // namespace

const std::vector<ModePair>& mode_pairs() {
  static const std::vector<ModePair> pairs = {
      {"confabulation", "grounded_facts", "confab_vs_facts", "H1: confabulation against facts"},
      {"self_reference", "non_self_reference", "self_ref_effect", "H2: self-reference"},
      {"guardrail_test", "rote_completion", "refusal_vs_rote", "H3: refusal against rote"},
      {"guardrail_test", "free_generation", "refusal_vs_free", "H3b: refusal against free text"},
      {"creative", "grounded_facts", "creative_vs_facts", "creative against facts"},
      {"emotional", "grounded_facts", "emotion_vs_facts", "emotional against facts"},
      {"math_reasoning", "grounded_facts", "math_vs_facts", "arithmetic against facts"},
      {"coding", "grounded_facts", "code_vs_facts", "code against facts"},
      {"ambiguous", "unambiguous", "ambiguity_effect", "ambiguous against unambiguous"}};
  return pairs;
}

CategoryRequests make_requests(
    const std::vector<PromptCategory>& categories,
    const std::function<std::vector<int64_t>(const std::string&)>& encode) {
  CategoryRequests out;
  for (size_t c = 0; c < categories.size(); ++c) {
    std::set<std::vector<int64_t>> seen;
    int64_t repeated = 0;
    for (size_t i = 0; i < categories[c].prompts.size(); ++i) {
      const std::string id = cat(categories[c].name, "/", i + 1);
      try {
        std::vector<int64_t> ids = encode(categories[c].prompts[i]);
        if (!seen.insert(ids).second)
          ++repeated;
        else
          out.requests.push_back({id, std::move(ids)});
      } catch (const Error& error) {
        out.unread.emplace_back(c, Measurement{.id = id, .failure = error.what()});
      }
    }
    out.repeated.push_back(repeated);
  }
  return out;
}

MeasuredScale measure_scale(const CausalLM& model, const Scale& scale,
                            const std::vector<PromptCategory>& categories,
                            const std::function<std::vector<int64_t>(const std::string&)>& encode,
                            const MeasureOptions& options, int64_t runs) {
  MeasuredScale out;
  out.scale = scale;
  const ModelConfig& config = model.config();
  out.num_layers = config.num_layers;
  out.num_kv_heads = config.num_kv_heads;
  out.hidden_size = config.hidden_size;
  out.vocab_size = config.vocab_size;
  out.parameters = config.parameter_count();
  out.runs = runs;
  CategoryRequests requests = make_requests(categories, encode);
  MeasureResult result = measure(model, requests.requests, options);
  out.seconds = result.seconds;
  out.positions = result.positions;
  out.resumed = result.resumed;
  if (runs > 1 && !requests.requests.empty()) {
    // Greedy runs are one observation; that they are is checked, not assumed.
    const auto n = std::min(requests.requests.size(), static_cast<size_t>(options.batch_size));
    const std::vector<MeasureRequest> some(requests.requests.begin(),
                                           requests.requests.begin() + static_cast<int64_t>(n));
    const auto first = measure_batch(model, some, options),
               again = measure_batch(model, some, options);
    for (size_t i = 0; i < n; ++i)
      out.repeats_equal = out.repeats_equal && first[i].written == again[i].written &&
                          first[i].geometry.keys.norm == again[i].geometry.keys.norm;
  }
  for (size_t c = 0; c < categories.size(); ++c) {
    MeasuredCategory category{categories[c].name, {}, requests.repeated[c]};
    for (Measurement& m : result.measurements)
      if (m.id.starts_with(category.name + "/")) category.prompts.push_back(std::move(m));
    std::erase_if(category.prompts, [](const Measurement& m) { return m.id.empty(); });
    for (const auto& [at, failed] : requests.unread)
      if (at == c) category.prompts.push_back(failed);
    out.categories.push_back(std::move(category));
  }
  return out;
}

Json analyse_scale(const MeasuredScale& measured, const SweepOptions& options) {
  Json out = {{"config", {{"model", measured.scale.model}, {"quantize", measured.scale.quantize}}}};
  if (!measured.error.empty()) {
    out["error"] = measured.error;
    return out;
  }
  out["model_info"] = {{"num_layers", measured.num_layers},
                       {"num_kv_heads", measured.num_kv_heads},
                       {"hidden_size", measured.hidden_size},
                       {"vocab_size", measured.vocab_size},
                       {"parameters", measured.parameters}};
  Json summaries = Json::object(), battery = Json::object(), failed = Json::array();
  for (const MeasuredCategory& category : measured.categories) {
    battery[category.name] = battery_of(category);
    summaries[category.name] = summary_of(category, options);
    for (const Json& f : battery[category.name]["failed_prompts"]) failed.push_back(f);
  }
  const Family family = compare_all(measured, options);
  std::vector<double> raw, adjusted;
  for (const Compared& c : family.compared) {
    raw.push_back(c.raw.conservative_p);
    adjusted.push_back(c.adjusted.p);
  }
  raw = stats::holm(raw);
  adjusted = stats::holm(adjusted);
  Json pairs = Json::object();
  for (size_t i = 0; i < family.compared.size(); ++i)
    pairs[family.compared[i].key] = compared_json(family.compared[i], raw[i], adjusted[i]);
  for (const auto& [key, why] : family.missing.items()) pairs[key] = {{"error", why}};
  out["battery_results"] = battery;
  out["analysis"] = {
      {"category_summaries", summaries},
      {"pairwise_comparisons", pairs},
      {"hypothesis_tests",
       {{"H1", hypothesis(pairs, "confab_vs_facts", "invention leaves another cache than fact")},
        {"H2", hypothesis(pairs, "self_ref_effect", "self-reference leaves a cache of its own")},
        {"H3", hypothesis(pairs, "refusal_vs_rote", "refusal leaves a cache of its own")},
        {"H3b", hypothesis(pairs, "refusal_vs_free", "the same against free text")}}},
      {"multiple_comparisons", family_corrections(family, raw)},
      {"power", power_json(family)},
      {"correlation_with_cache_length", length_json(measured)}};
  out["ranking"] = ranking_of(summaries);
  out["layers"] = layers_json(measured);
  out["failed_prompts"] = failed;
  out["runs"] = {{"asked", measured.runs},
                 {"counted", 1},
                 {"repeats_equal", measured.runs > 1 ? Json(measured.repeats_equal) : Json()}};
  return out;
}

Json analyse_scales(const std::vector<MeasuredScale>& measured, const Json& scales,
                    const SweepOptions& options) {
  std::vector<const MeasuredScale*> done;
  for (const MeasuredScale& m : measured)
    if (m.error.empty()) done.push_back(&m);
  Json names = Json::array(), correlations = Json::array(), trends = Json::object();
  for (const MeasuredScale* m : done) names.push_back(m->scale.key);
  for (size_t i = 0; i < done.size(); ++i)
    for (size_t k = i + 1; k < done.size(); ++k)
      correlations.push_back(correlate(*done[i], *done[k], options));
  for (const char* key : {"confab_vs_facts", "self_ref_effect", "refusal_vs_rote"}) {
    for (const Feature& feature : kFeatures) {
      std::vector<double> sizes, effects;
      const std::string full = std::string(key) + feature.suffix;
      for (const MeasuredScale* m : done) {
        const Json& pairs = scales[m->scale.key]["analysis"]["pairwise_comparisons"];
        if (!pairs.contains(full) || pairs[full].contains("error")) continue;
        const Json& d = pairs[full]["length_adjusted"]["estimate"];
        if (!d.is_number()) continue;
        sizes.push_back(size_of(*m));
        effects.push_back(d);
      }
      trends[full] = trend_over_scales(full, sizes, effects);
    }
  }
  return {{"scales_compared", names},
          {"effect_size_trends", trends},
          {"rank_correlations", correlations},
          {"h4_verdict", h4_of(correlations)}};
}

void check_older_sweep(const nlohmann::json& old, const std::string& file) {
  if (old.contains("scales") && old["scales"].is_object() && !old["scales"].empty() &&
      std::ranges::all_of(old["scales"], [](const auto& scale) { return scale.is_object(); }))
    return;
  throw Error({.code = ExitCode::kInput,
               .where = printable(file),
               .what = "not a results file of a scale sweep",
               .expected = "an object with scales, each an object",
               .remedy = "give --compare the results.json of a sweep"});
}

Json compare_with(const Json& now, const nlohmann::json& old, const SweepOptions& options) {
  check_older_sweep(old, "--compare");
  Json out = Json::object();
  constexpr const char* kArrays[] = {"all_norms", "all_norms_per_token", "all_key_ranks"};
  for (const auto& [scale, results] : old["scales"].items()) {
    if (!results.contains("battery_results")) continue;
    const auto distinct = [&](const char* category, const char* array) {
      std::vector<double> values;
      std::set<double> seen;  // repeats of a prompt are bit-identical
      if (results["battery_results"].contains(category) &&
          results["battery_results"][category].contains(array))
        for (const auto& v : results["battery_results"][category][array])
          if (v.is_number() && std::abs(v.get<double>()) < kLargestFigure &&
              seen.insert(v.get<double>()).second)
            values.push_back(v);
      return values;
    };
    Json rows = Json::array();
    for (size_t f = 0; f < 3; ++f) {
      for (const ModePair& pair : mode_pairs()) {
        const auto a = distinct(pair.first, kArrays[f]), b = distinct(pair.second, kArrays[f]);
        if (a.size() < 2 || b.size() < 2) continue;
        const std::string key = std::string(pair.key) + kFeatures[f].suffix;
        const stats::Comparison theirs = stats::compare(
            a, b, {std::min<int64_t>(options.bootstrap, 2000), options.confidence, 1});
        Json row = {{"comparison", key},
                    {"old_n", {a.size(), b.size()}},
                    {"old_d", interval_json(theirs.d)},
                    {"old_claims", std::abs(theirs.d.estimate) > threshold_of(pair.key)}};
        Json ours;
        for (const auto& [name, mine] : now["scales"].items()) {
          if (!mine.contains("analysis") || (name != scale && now["scales"].size() > 1)) continue;
          const Json& pairs = mine["analysis"]["pairwise_comparisons"];
          if (pairs.contains(key) && !pairs[key].contains("error")) ours = pairs[key];
        }
        if (!ours.is_null()) {
          const Json& d = ours["length_adjusted"]["estimate"];
          const bool same = d.is_number() && (d.get<double>() > 0) == (theirs.d.estimate > 0);
          row["new_d"] = ours["length_adjusted"];
          row["survives"] = !row["old_claims"].get<bool>()       ? "made no claim"
                            : ours["verdict"] == "shown" && same ? "yes"
                            : ours["verdict"] == "shown"         ? "the other way round"
                            : ours["verdict"] == "none"          ? "no"
                                                                 : "undecided";
        } else {
          row["survives"] = "not measured here";
        }
        rows.push_back(row);
      }
    }
    out[scale] = rows;
  }
  return out;
}

bool complete(const std::vector<MeasuredScale>& measured) {
  for (const MeasuredScale& m : measured) {
    if (!m.error.empty()) return false;
    for (const MeasuredCategory& category : m.categories)
      for (const Measurement& prompt : category.prompts)
        if (!prompt.ok()) return false;
  }
  return !measured.empty();
}

}  // namespace kvlingua
