#include "eval/statistics/effect_size.h"

#include <cmath>

#include "eval/statistics/resampling.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua::stats {

namespace {

using Sample = std::vector<double>;

void need_two(const Sample& a, const Sample& b) {
  if (a.size() < 2 || b.size() < 2)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: effect size",
                 .what = "not enough values",
                 .got = cat(a.size(), " and ", b.size()),
                 .expected = "two values each"});
}

double mean(const Sample& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double squares(const Sample& values, double centre) {
  double sum = 0;
  for (double v : values) sum += (v - centre) * (v - centre);
  return sum;
}

Sample resample(const Sample& values, Random& random) {
  Sample drawn(values.size());
  for (double& v : drawn) v = random.pick(values);
  return drawn;
}

// Each sample is resampled within itself.
Interval stratified(const Sample& a, const Sample& b, Effect effect, const EffectOptions& options) {
  need_two(a, b);
  Random random(options.seed);
  std::vector<double> replicates;
  for (int64_t r = 0; r < options.resamples; ++r) {
    const Sample first = resample(a, random);
    replicates.push_back(effect(first, resample(b, random)));
  }
  return bca_interval(effect(a, b), std::move(replicates), jackknife_influence(a, b, effect),
                      options.confidence);
}

}  // namespace

double cohens_d(const Sample& a, const Sample& b) {
  need_two(a, b);
  const double ma = mean(a), mb = mean(b), df = static_cast<double>(a.size() + b.size()) - 2;
  const double pooled = std::sqrt((squares(a, ma) + squares(b, mb)) / df);
  if (pooled == 0) return ma == mb ? 0 : std::copysign(HUGE_VAL, ma - mb);
  return (ma - mb) / pooled;
}

double hedges_correction(double df) {
  return std::exp(std::lgamma(df / 2) - std::lgamma((df - 1) / 2)) / std::sqrt(df / 2);
}

double hedges_g(const Sample& a, const Sample& b) {
  return cohens_d(a, b) * hedges_correction(static_cast<double>(a.size() + b.size()) - 2);
}

std::vector<double> jackknife_influence(const Sample& a, const Sample& b, Effect effect) {
  std::vector<double> influence;
  const auto leave_out = [&](const Sample& from, auto&& evaluate) {
    if (from.size() <= 2) return;  // one value has no spread
    std::vector<double> left;
    for (size_t i = 0; i < from.size(); ++i) {
      Sample rest = from;
      rest.erase(rest.begin() + static_cast<int64_t>(i));
      left.push_back(evaluate(rest));
    }
    const double centre = mean(left),
                 scale = static_cast<double>(left.size() - 1) / static_cast<double>(left.size());
    for (double v : left) influence.push_back(scale * (v - centre));
  };
  leave_out(a, [&](const Sample& rest) { return effect(rest, b); });
  leave_out(b, [&](const Sample& rest) { return effect(a, rest); });
  return influence;
}

Interval cohens_d_interval(const Sample& a, const Sample& b, const EffectOptions& options) {
  return stratified(a, b, &cohens_d, options);
}

Interval hedges_g_interval(const Sample& a, const Sample& b, const EffectOptions& options) {
  return stratified(a, b, &hedges_g, options);
}

}  // namespace kvlingua::stats
