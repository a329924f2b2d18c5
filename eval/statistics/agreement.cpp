#include "eval/statistics/agreement.h"

#include <algorithm>
#include <boost/math/distributions/fisher_f.hpp>
#include <cmath>
#include <map>

#include "eval/statistics/distributions.h"
#include "kvlingua/base/error.h"

namespace kvlingua::stats {

namespace {

struct Shape {
  double subjects, raters;
};

Shape shape_of(const Ratings& table) {
  bool whole = table.size() >= 2;
  for (const auto& row : table) whole = whole && row.size() >= 2 && row.size() == table[0].size();
  if (!whole)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: agreement",
                 .what = "two subjects and two raters without gaps are needed",
                 .got = cat(table.size(), " subjects")});
  return {static_cast<double>(table.size()), static_cast<double>(table[0].size())};
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double variance_of(const std::vector<double>& values) {  // n, as numpy's default
  const double mean = mean_of(values);
  double sum = 0;
  for (const double v : values) sum += (v - mean) * (v - mean);
  return sum / static_cast<double>(values.size());
}

double f_quantile(double p, double df1, double df2) {
  return boost::math::quantile(boost::math::fisher_f(df1, df2), p);
}

}  // namespace

Interval icc_two_way(const Ratings& table, double confidence) {
  const auto [n, k] = shape_of(table);
  std::vector<double> subjects, raters(table[0].size(), 0);
  for (const auto& row : table) {
    subjects.push_back(mean_of(row));
    for (size_t j = 0; j < row.size(); ++j) raters[j] += row[j] / n;
  }
  const double grand = mean_of(subjects);
  double total = 0;
  for (const auto& row : table)
    for (const double v : row) total += (v - grand) * (v - grand);
  const double between = k * n * variance_of(subjects), columns = n * k * variance_of(raters);
  const double msr = between / (n - 1), msc = columns / (k - 1);
  const double mse = std::max(0.0, total - between - columns) / ((n - 1) * (k - 1));
  const double icc = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n);
  if (!(mse > 0)) return {icc, icc, icc};
  const double a = k * icc / (n * (1 - icc)), b = 1 + k * icc * (n - 1) / (n * (1 - icc));
  const double v = std::pow(a * msc + b * mse, 2) /
                   (std::pow(a * msc, 2) / (k - 1) + std::pow(b * mse, 2) / ((n - 1) * (k - 1)));
  const double tail = 1 - (1 - confidence) / 2;
  const double low = f_quantile(tail, n - 1, v), high = f_quantile(tail, v, n - 1);
  const double rest = k * msc + (k * n - k - n) * mse;
  return {icc, n * (msr - low * mse) / (low * rest + n * msr),
          n * (high * msr - mse) / (rest + n * high * msr)};
}

VarianceRatio variance_ratio(const Ratings& table) {
  const auto [n, k] = shape_of(table);
  VarianceRatio result;
  std::vector<double> means;
  for (const auto& row : table) {
    means.push_back(mean_of(row));
    result.within += variance_of(row) / n;
  }
  result.between = variance_of(means);
  result.ratio = result.within > 0 ? result.between / result.within : 0;
  const double below = result.between + (k - 1) * result.within;
  result.icc = below > 0 ? (result.between - result.within) / below : 0;
  return result;
}

TestResult kendall_w(const Ratings& table) {
  const auto [n, m] = shape_of(table);
  std::vector<double> sums(table.size(), 0);
  double ties = 0;
  for (size_t rater = 0; rater < table[0].size(); ++rater) {
    std::vector<double> column;
    for (const auto& row : table) column.push_back(row[rater]);
    const std::vector<double> ranked = ranks(column);
    std::map<double, double> counts;
    for (size_t i = 0; i < ranked.size(); ++i) {
      sums[i] += ranked[i];
      counts[ranked[i]] += 1;
    }
    for (const auto& [rank, count] : counts) ties += count * count * count - count;
  }
  const double spread = n * variance_of(sums);
  const double below = m * m * (n * n * n - n) - m * ties;
  if (!(below > 0)) return {0, 1};
  const double w = 12 * spread / below;
  return {w, chi_squared_sf(m * (n - 1) * w, n - 1)};
}

}  // namespace kvlingua::stats
