#include "eval/statistics/clustered.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "eval/statistics/distributions.h"
#include "eval/statistics/equivalence.h"
#include "eval/statistics/resampling.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua::stats {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFormCorrelation = 0.65, kGuessWeight = 10;

int64_t count_of(const std::vector<int64_t>& labels, int64_t n) {
  return labels.empty() ? n : 1 + *std::max_element(labels.begin(), labels.end());
}

size_t label(const std::vector<int64_t>& labels, size_t i) {
  return labels.empty() ? i : static_cast<size_t>(labels[i]);
}

void check(const Clustered& items) {
  const size_t n = items.first.size();
  for (size_t size :
       {items.second.size(), items.floor.size(), items.group.size(), items.content.size()})
    if (size != 0 && size != n)
      throw Error({.code = ExitCode::kUsage,
                   .where = "statistics: clusters",
                   .what = "one entry an item is needed",
                   .got = cat(size),
                   .expected = cat(n)});
}

// Sums over the items of each group: what a replicate is made of.
struct GroupSums {
  std::vector<double> first, second, floor, items;
  explicit GroupSums(const Clustered& c)
      : first(static_cast<size_t>(count_of(c.group, c.n()))),
        second(first.size()),
        floor(first.size()),
        items(first.size()) {
    for (size_t i = 0; i < c.first.size(); ++i) {
      const size_t g = label(c.group, i);
      first[g] += c.first[i];
      if (!c.second.empty()) second[g] += c.second[i];
      if (!c.floor.empty()) floor[g] += c.floor[i];
      items[g] += 1;
    }
  }
};

struct Totals {
  double first = 0, second = 0, floor = 0, items = 0;
  double share() const {
    const double gap = second - floor;
    return gap > 0 ? (first - floor) / gap : std::nan("");
  }
  double difference() const { return (first - second) / items; }
};

double statistic(const Totals& t, bool share) { return share ? t.share() : t.difference(); }

double quantile_of(int64_t groups, double confidence) {
  return student_quantile(0.5 + confidence / 2,
                          static_cast<double>(std::max<int64_t>(1, groups - 1)));
}

// Draw `place` of resample `base` = mix(seed, r): splitmix64's stream, scaled by its upper half.
size_t draw(uint64_t base, uint64_t place, uint64_t n) {
  return static_cast<size_t>(((mix(base + place * 0x9E3779B97F4A7C15ULL) >> 32) * n) >> 32);
}

BcaInterval resampled(const Clustered& items, bool share, const ClusterOptions& options) {
  const GroupSums sums(items);
  const size_t groups = sums.items.size();
  Totals all;
  for (size_t g = 0; g < groups; ++g) {
    all.first += sums.first[g];
    all.second += sums.second[g];
    all.floor += sums.floor[g];
    all.items += sums.items[g];
  }
  const double estimate = statistic(all, share);
  if (groups < 2 || std::isnan(estimate)) return {{estimate, -kInfinity, kInfinity}};
  std::vector<double> jackknife;
  for (size_t g = 0; g < groups; ++g) {
    const double value = statistic({all.first - sums.first[g], all.second - sums.second[g],
                                    all.floor - sums.floor[g], all.items - sums.items[g]},
                                   share);
    if (!std::isnan(value)) jackknife.push_back(value);
  }
  std::vector<double> replicates;
  replicates.reserve(static_cast<size_t>(options.resamples));
  for (int64_t r = 0; r < options.resamples; ++r) {
    const uint64_t base = mix(options.seed, static_cast<uint64_t>(r));
    Totals t;
    for (size_t place = 0; place < groups; ++place) {
      const size_t g = draw(base, place, groups);
      t.first += sums.first[g];
      t.second += sums.second[g];
      t.floor += sums.floor[g];
      t.items += sums.items[g];
    }
    replicates.push_back(statistic(t, share));
  }
  BcaInterval drawn =
      bca_with_errors(estimate, std::move(replicates), jackknife, options.confidence);
  // A bootstrap of G groups is too narrow by the root of (G - 1) / G and knows no Student
  // (Hesterberg 2015, "expanded").
  const auto g = static_cast<double>(groups);
  const double expand = std::sqrt(g / (g - 1)) *
                        quantile_of(static_cast<int64_t>(groups), options.confidence) /
                        normal_quantile(0.5 + options.confidence / 2);
  drawn.low = estimate - expand * (estimate - drawn.low);
  drawn.high = estimate + expand * (drawn.high - estimate);
  drawn.low_error *= expand;
  drawn.high_error *= expand;
  return drawn;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

// Of what the interval is about. The forms of one content agree with a correlation of about .65
// (measured .5 to .7 on the families here); that guess weighs as much as ten events do, and what is
// seen takes over from there.
double effect_of(const Clustered& items, const std::vector<double>& values, double events) {
  const double forms =
      static_cast<double>(items.n()) / static_cast<double>(count_of(items.content, items.n()));
  const double guess = 1 + kFormCorrelation * (forms - 1);
  const double seen = events > 0 ? design_effect(values, items.group) : guess;
  return std::max(1.0, (seen * events + guess * kGuessWeight) / (events + kGuessWeight));
}

ClusterInterval blank(const Clustered& items) {
  check(items);
  ClusterInterval result;
  result.n = items.n();
  result.groups = count_of(items.group, items.n());
  result.contents = count_of(items.content, items.n());
  return result;
}

void widen(ClusterInterval& result, double low, double high) {
  if (!(low >= result.low)) {
    result.low = low;
    result.low_error = 0;
  }
  if (!(high <= result.high)) {
    result.high = high;
    result.high_error = 0;
  }
}

// The score interval of first - second on counts divided by the design effect.
Interval score_difference(const Clustered& items, ClusterInterval& result, double confidence) {
  std::vector<double> differences(items.first.size());
  double gained = 0, lost = 0;
  for (size_t i = 0; i < items.first.size(); ++i) {
    differences[i] = items.first[i] - items.second[i];
    (differences[i] > 0 ? gained : lost) += std::abs(differences[i]);
  }
  result.design_effect = effect_of(items, differences, gained + lost);
  const double by = result.design_effect;
  return tango_interval(static_cast<double>(items.n()) / by, gained / by, lost / by,
                        quantile_of(result.groups, confidence));
}

}  // namespace

double design_effect(const std::vector<double>& values, const std::vector<int64_t>& group) {
  const auto n = static_cast<double>(values.size());
  const int64_t groups = count_of(group, static_cast<int64_t>(values.size()));
  if (values.size() < 2 || groups < 2 || groups == static_cast<int64_t>(values.size())) return 1;
  const double centre = mean(values);
  std::vector<double> sums(static_cast<size_t>(groups));
  double plain = 0, grouped = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sums[label(group, i)] += values[i] - centre;
    plain += (values[i] - centre) * (values[i] - centre);
  }
  for (double s : sums) grouped += s * s;
  const auto g = static_cast<double>(groups);
  return plain > 0 ? (grouped * g / (g - 1)) / (plain * n / (n - 1)) : 1;
}

Interval tango_interval(double n, double only_first, double only_second, double quantile) {
  if (!(n > 0)) return {0, -1, 1};
  const double estimate = (only_first - only_second) / n;
  const auto crossing = [&](double level) {
    double low = -1, high = 1;
    for (int i = 0; i < 60; ++i) {
      const double middle = (low + high) / 2;
      (tango_z(n, only_first, only_second, middle) > level ? low : high) = middle;
    }
    return (low + high) / 2;
  };
  return {estimate, std::min(estimate, crossing(quantile)),
          std::max(estimate, crossing(-quantile))};
}

ClusterInterval clustered_rate(const Clustered& items, double confidence) {
  ClusterInterval result = blank(items);
  if (items.n() == 0) {
    result.high = 1;
    return result;
  }
  double successes = 0;
  for (double v : items.first) successes += v;
  const auto n = static_cast<double>(items.n());
  result.design_effect = effect_of(items, items.first, std::min(successes, n - successes));
  const double count = n / result.design_effect, p = successes / n;
  const double z = quantile_of(result.groups, confidence);
  const double centre = (p + z * z / (2 * count)) / (1 + z * z / count);
  const double half =
      z * std::sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count);
  const double exact = 1 - std::pow((1 - confidence) / 2, 1 / count);  // of none in `count`
  result.estimate = p;
  result.low = successes == 0 ? 0 : std::max(0.0, centre - half);
  result.high = successes == n ? 1 : std::min(1.0, centre + half);
  if (successes == 0) result.high = std::max(result.high, exact);
  if (successes == n) result.low = std::min(result.low, 1 - exact);
  return result;
}

ClusterInterval clustered_difference(const Clustered& items, const ClusterOptions& options) {
  ClusterInterval result = blank(items);
  if (items.n() == 0) {
    result.low = -1;
    result.high = 1;
    return result;
  }
  const BcaInterval drawn = resampled(items, false, options);
  result.estimate = drawn.estimate;
  result.low = std::max(-1.0, drawn.low);
  result.high = std::min(1.0, drawn.high);
  result.low_error = drawn.low_error;
  result.high_error = drawn.high_error;
  const Interval score = score_difference(items, result, options.confidence);
  widen(result, score.low, score.high);
  return result;
}

ClusterInterval score_difference(const Clustered& items, double confidence) {
  ClusterInterval result = blank(items);
  const Interval score = score_difference(items, result, confidence);
  result.estimate = mean(items.first) - mean(items.second);
  result.low = score.low;
  result.high = score.high;
  return result;
}

Interval clustered_mean_t(const std::vector<double>& values, const std::vector<int64_t>& group,
                          double confidence) {
  const double centre = mean(values), n = static_cast<double>(values.size());
  const int64_t groups = count_of(group, static_cast<int64_t>(values.size()));
  if (groups < 2) return {centre, -kInfinity, kInfinity};
  std::vector<double> sums(static_cast<size_t>(groups));
  for (size_t i = 0; i < values.size(); ++i) sums[label(group, i)] += values[i] - centre;
  double square = 0;
  for (double s : sums) square += s * s;
  const auto g = static_cast<double>(groups);
  const double half = quantile_of(groups, confidence) * std::sqrt(square * g / (g - 1)) / n;
  return {centre, centre - half, centre + half};
}

ClusterInterval clustered_share(const Clustered& items, const ClusterOptions& options) {
  ClusterInterval result = bootstrap_share(items, options);
  if (std::isnan(result.estimate)) return result;
  const double gap = mean(items.second) - mean(items.floor);
  const Interval score = score_difference(items, result, options.confidence);
  widen(result, 1 + score.low / gap, 1 + score.high / gap);
  return result;
}

ClusterInterval bootstrap_share(const Clustered& items, const ClusterOptions& options) {
  ClusterInterval result = blank(items);
  result.estimate = std::nan("");
  result.low = -kInfinity;
  result.high = kInfinity;
  if (items.n() == 0) return result;
  const BcaInterval drawn = resampled(items, true, options);
  result.estimate = drawn.estimate;
  result.low = drawn.low;
  result.high = drawn.high;
  result.low_error = drawn.low_error;
  result.high_error = drawn.high_error;
  std::vector<double> residuals(items.first.size());
  for (size_t i = 0; i < residuals.size(); ++i) {
    const double floor = items.floor.empty() ? 0 : items.floor[i];
    residuals[i] = items.first[i] - floor - result.estimate * (items.second[i] - floor);
  }
  result.design_effect = std::max(1.0, design_effect(residuals, items.group));
  return result;
}

double sign_flip_p(const Clustered& items, int64_t resamples, uint64_t seed) {
  check(items);
  const GroupSums sums(items);
  std::vector<double> differences;
  double seen = 0;
  for (size_t g = 0; g < sums.items.size(); ++g) {
    const double difference = sums.first[g] - sums.second[g];
    seen += difference;
    if (difference != 0) differences.push_back(difference);
  }
  const double bound = std::abs(seen) - 1e-9;
  const auto extreme = [&](uint64_t signs_from, bool hashed) {
    double sum = 0;
    for (size_t k = 0; k < differences.size(); ++k) {
      const bool minus = hashed ? (mix(signs_from + k * 0x9E3779B97F4A7C15ULL) >> 63) != 0
                                : ((signs_from >> k) & 1) != 0;
      sum += minus ? -differences[k] : differences[k];
    }
    return std::abs(sum) >= bound;
  };
  if (differences.size() <= 12) {
    const uint64_t ways = uint64_t{1} << differences.size();
    int64_t hits = 0;
    for (uint64_t way = 0; way < ways; ++way) hits += extreme(way, false) ? 1 : 0;
    return static_cast<double>(hits) / static_cast<double>(ways);
  }
  int64_t hits = 0;
  for (int64_t r = 0; r < resamples; ++r)
    hits += extreme(mix(seed, static_cast<uint64_t>(r)), true) ? 1 : 0;
  return static_cast<double>(hits + 1) / static_cast<double>(resamples + 1);
}

std::vector<int64_t> labels_of(const std::vector<std::string>& names) {
  std::unordered_map<std::string, int64_t> known;
  std::vector<int64_t> labels;
  for (const auto& name : names)
    labels.push_back(known.try_emplace(name, static_cast<int64_t>(known.size())).first->second);
  return labels;
}

double power_of_share(double gate, double truth, int64_t n, double ceiling, double gained,
                      double effect, double confidence) {
  const auto count = std::max<int64_t>(1, std::llround(static_cast<double>(n) / effect));
  const double lost = std::clamp(gained + (1 - truth) * ceiling, 0.0, 1 - gained);
  const double z = normal_quantile(0.5 + confidence / 2), at = (gate - 1) * ceiling;
  double power = 0;
  for (int64_t b = 0; b <= count; ++b) {
    const double log_b = log_binomial_pmf(b, count, gained);
    if (!(log_b > -20)) {
      if (static_cast<double>(b) > gained * static_cast<double>(count)) break;
      continue;
    }
    // More losses never pass where fewer do not: the passing ones are the first.
    const double rest = gained < 1 ? lost / (1 - gained) : 0;
    int64_t low = -1, high = count - b + 1;
    while (high - low > 1) {
      const int64_t c = (low + high) / 2;
      (tango_z(static_cast<double>(count), static_cast<double>(b), static_cast<double>(c), at) >= z
           ? low
           : high) = c;
    }
    if (low >= 0) power += std::exp(log_b) * binomial_cdf(low, count - b, rest);
  }
  return power;
}

int64_t items_for_power(double power, double gate, double truth, double ceiling, double gained,
                        double effect, double confidence, int64_t step, int64_t most) {
  int64_t low = 0, high = most / step;
  const auto enough = [&](int64_t steps) {
    return power_of_share(gate, truth, steps * step, ceiling, gained, effect, confidence) >= power;
  };
  if (!enough(high)) return -1;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high * step;
}

}  // namespace kvlingua::stats
