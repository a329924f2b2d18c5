#include "eval/statistics/resampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "eval/statistics/distributions.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua::stats {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<std::vector<int64_t>> members_by_group(int64_t n, const std::vector<int64_t>& groups) {
  std::vector<std::vector<int64_t>> members;
  if (groups.empty()) {
    for (int64_t i = 0; i < n; ++i) members.push_back({i});
    return members;
  }
  if (static_cast<int64_t>(groups.size()) != n)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: bootstrap",
                 .what = "one group label an item is needed",
                 .got = cat(groups.size(), " labels"),
                 .expected = cat(n, " labels")});
  std::map<int64_t, std::vector<int64_t>> by_label;
  for (int64_t i = 0; i < n; ++i) by_label[groups[static_cast<size_t>(i)]].push_back(i);
  for (auto& [label, items] : by_label) members.push_back(std::move(items));
  return members;
}

void append(std::vector<int64_t>& to, const std::vector<int64_t>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

int64_t pairs(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size())
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: bootstrap",
                 .what = "pairs are needed",
                 .got = cat(a.size(), " and ", b.size(), " values")});
  return static_cast<int64_t>(a.size());
}

}  // namespace

double quantile(const std::vector<double>& sorted, double q) {
  const double place = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Interval bca_interval(double estimate, std::vector<double> replicates,
                      const std::vector<double>& jackknife, double confidence) {
  return bca_with_errors(estimate, std::move(replicates), jackknife, confidence);
}

BcaInterval bca_with_errors(double estimate, std::vector<double> replicates,
                            const std::vector<double>& jackknife, double confidence) {
  const size_t drawn = replicates.size();
  std::erase_if(replicates, [](double v) { return std::isnan(v); });
  if (replicates.empty() || 2 * replicates.size() < drawn)
    return {{estimate, -kInfinity, kInfinity}};
  std::sort(replicates.begin(), replicates.end());
  if (replicates.front() == replicates.back())
    return {{estimate, replicates.front(), replicates.back()}};

  const auto below =
      std::lower_bound(replicates.begin(), replicates.end(), estimate) - replicates.begin();
  const auto up_to =
      std::upper_bound(replicates.begin(), replicates.end(), estimate) - replicates.begin();
  const double share =
      static_cast<double>(below + up_to) / (2 * static_cast<double>(replicates.size()));
  const double bias = normal_quantile(share);

  double centre = 0, second = 0, third = 0;
  for (double v : jackknife) centre += v / static_cast<double>(jackknife.size());
  for (double v : jackknife) {
    const double influence = centre - v;
    second += influence * influence;
    third += influence * influence * influence;
  }
  const double acceleration = second > 0 ? third / (6 * std::pow(second, 1.5)) : 0;
  const auto level = [&](double p) {
    if (std::isinf(bias)) return p;  // every replicate on one side: fall back to plain percentiles
    const double z = bias + normal_quantile(p);
    return normal_cdf(bias + z / (1 - acceleration * z));
  };
  const double tail = (1 - confidence) / 2;
  const auto error = [&](double p) {
    const double step = std::sqrt(p * (1 - p) / static_cast<double>(replicates.size()));
    return (quantile(replicates, p + step) - quantile(replicates, p - step)) / 2;
  };
  const double low = level(tail), high = level(1 - tail);
  return {
      {estimate, quantile(replicates, low), quantile(replicates, high)}, error(low), error(high)};
}

Interval bootstrap(int64_t n, const IndexStatistic& statistic, const BootstrapOptions& options) {
  if (n < 1)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: bootstrap",
                 .what = "nothing to resample",
                 .got = cat(n, " items")});
  const auto members = members_by_group(n, options.groups);
  std::vector<int64_t> indices(static_cast<size_t>(n));
  std::iota(indices.begin(), indices.end(), 0);
  const double estimate = statistic(indices);
  if (members.size() == 1) return {estimate, -kInfinity, kInfinity};

  std::vector<double> jackknife;
  for (size_t left_out = 0; left_out < members.size(); ++left_out) {
    indices.clear();
    for (size_t g = 0; g < members.size(); ++g)
      if (g != left_out) append(indices, members[g]);
    const double value = statistic(indices);
    if (!std::isnan(value)) jackknife.push_back(value);
  }
  Random random(options.seed);
  std::vector<double> replicates;
  replicates.reserve(static_cast<size_t>(options.resamples));
  for (int64_t r = 0; r < options.resamples; ++r) {
    indices.clear();
    for (size_t g = 0; g < members.size(); ++g)
      append(indices, members[random.below(members.size())]);
    replicates.push_back(statistic(indices));
  }
  return bca_interval(estimate, std::move(replicates), jackknife, options.confidence);
}

Interval bootstrap_difference(const std::vector<double>& a, const std::vector<double>& b,
                              const BootstrapOptions& options) {
  return bootstrap(
      pairs(a, b),
      [&](const std::vector<int64_t>& indices) {
        double sum = 0;
        for (int64_t i : indices) sum += a[static_cast<size_t>(i)] - b[static_cast<size_t>(i)];
        return sum / static_cast<double>(indices.size());
      },
      options);
}

Interval bootstrap_ratio(const std::vector<double>& a, const std::vector<double>& b,
                         const BootstrapOptions& options) {
  return bootstrap(
      pairs(a, b),
      [&](const std::vector<int64_t>& indices) {
        double above = 0, below = 0;
        for (int64_t i : indices) {
          above += a[static_cast<size_t>(i)];
          below += b[static_cast<size_t>(i)];
        }
        return below == 0 ? std::nan("") : above / below;
      },
      options);
}

}  // namespace kvlingua::stats
