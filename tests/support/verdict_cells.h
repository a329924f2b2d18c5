// Simulated evaluations of a known truth: what a verdict's interval promises is held against them.
//
//   independent   items by themselves
//   pairs         two forms of each content; the second copies the first with probability .7
//   facts         60 facts, each easier or harder than the next (intra-class correlation .07)
// `ceiling` is the success rate of full_text; where the text itself fails, the judged condition
// still succeeds with .7 of its usual rate, so that neither contains the other.
#pragma once

#include <cmath>
#include <map>
#include <string>

#include "eval/statistics/clustered.h"
#include "kvlingua/base/random.h"

namespace kvlingua::testing {

inline constexpr double kGate = 0.95;

struct Cell {
  std::string kind;
  double ceiling = 1;
  int n = 200;
  double truth = 1;
};

inline double draw_gamma(Random& random, double shape) {  // Marsaglia and Tsang 2000
  const double boost = shape < 1 ? std::pow(1 - random.uniform(), 1 / shape) : 1;
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    const double x = radius * std::cos(2 * M_PI * random.uniform()), v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(1 - random.uniform()) < x * x / 2 + d - d * v + d * std::log(v))
      return boost * d * v;
  }
}

inline stats::Clustered simulate(const Cell& cell, Random& random) {
  stats::Clustered items;
  const double by_luck = 0.7 * cell.truth * cell.ceiling;
  const double kept = (cell.truth * cell.ceiling - (1 - cell.ceiling) * by_luck) / cell.ceiling;
  double full = 0, judged = 0;
  const auto draw = [&](double keeps) {
    full = random.chance(cell.ceiling) ? 1 : 0;
    judged = random.chance(full > 0 ? keeps : by_luck) ? 1 : 0;
  };
  std::map<int64_t, double> keeps_of;
  std::map<int64_t, int64_t> label;
  for (int i = 0; i < cell.n; ++i) {
    int64_t group = i, content = i;
    if (cell.kind == "facts") {
      const auto fact = static_cast<int64_t>(random.below(60));
      group = label.try_emplace(fact, static_cast<int64_t>(label.size())).first->second;
      if (!keeps_of.contains(fact)) {
        const double size = 1 / 0.07 - 1, a = kept * size, b = (1 - kept) * size;
        const double x = draw_gamma(random, a), y = b > 0 ? draw_gamma(random, b) : 0;
        keeps_of[fact] = x / (x + y);
      }
      draw(keeps_of[fact]);
    } else if (cell.kind == "pairs") {
      group = content = i / 2;
      if (i % 2 == 0 || !random.chance(0.7)) draw(kept);
    } else {
      draw(kept);
    }
    items.first.push_back(judged);
    items.second.push_back(full);
    items.group.push_back(group);
    items.content.push_back(content);
  }
  return items;
}

struct Operating {
  double coverage = 0, pass = 0, fail = 0;
};

inline Operating operate(const Cell& cell, int sets, int64_t resamples) {
  Random random(mix(hash_name(cell.kind),
                    static_cast<uint64_t>(cell.n * 1e6 + cell.truth * 1e5 + cell.ceiling * 1e3)));
  Operating result;
  for (int i = 0; i < sets; ++i) {
    const auto interval = stats::clustered_share(simulate(cell, random),
                                                 {.resamples = resamples, .seed = random.next()});
    result.coverage += interval.low <= cell.truth && cell.truth <= interval.high;
    result.pass += interval.low >= kGate;
    result.fail += interval.high < kGate;
  }
  result.coverage /= sets;
  result.pass /= sets;
  result.fail /= sets;
  return result;
}

}  // namespace kvlingua::testing
