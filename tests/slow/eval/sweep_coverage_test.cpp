// What sweep and identity promise, held against simulated data sets of the size they are used with:
// fifteen prompts a category, thirteen categories; six personas in four wordings. Seeds are fixed.
#include <gtest/gtest.h>

#include <cmath>

#include "eval/personas/signatures.h"
#include "eval/statistics/comparison.h"
#include "kvlingua/base/random.h"

namespace kvlingua {
namespace {

double normal(Random& random) {
  return std::sqrt(-2 * std::log(1 - random.uniform())) *
         std::cos(6.283185307179586 * random.uniform());
}

bool holds(const stats::Interval& interval, double truth) {
  return interval.low <= truth && truth <= interval.high;
}

template <class OneSet>
double share(int sets, uint64_t seed, const OneSet& one_set) {
  Random random(seed);
  int hits = 0;
  for (int i = 0; i < sets; ++i) hits += one_set(random) ? 1 : 0;
  return static_cast<double>(hits) / sets;
}

std::vector<double> sample(Random& random, int n, double mean) {
  std::vector<double> values;
  for (int i = 0; i < n; ++i) values.push_back(mean + normal(random));
  return values;
}

TEST(SweepCoverage, RawEffects) {
  for (const double d : {0.0, 0.5, 1.5}) {
    int effects = 0, differences = 0;
    constexpr int kSets = 2000;
    Random random(21);
    for (int i = 0; i < kSets; ++i) {
      const stats::Comparison c = stats::compare(sample(random, 15, d), sample(random, 15, 0),
                                                 {.draws = 1000, .seed = random.next()});
      effects += holds(c.d, d);
      differences += holds(c.difference, d);
    }
    std::printf("d = %.1f: d covered %.3f, difference %.3f\n", d, effects / double{kSets},
                differences / double{kSets});
    EXPECT_GE(effects / double{kSets}, 0.93) << d;
    EXPECT_LE(effects / double{kSets}, 0.97) << d;
    EXPECT_GE(differences / double{kSets}, 0.93) << d;
    EXPECT_LE(differences / double{kSets}, 0.97) << d;
  }
}

// Thirteen categories of fifteen prompts; the first is `longer` tokens longer and lies `effect`
// deviations higher. `bend`: what length does, beside a line.
std::vector<stats::LengthGroup> groups(Random& random, double effect, int longer,
                                       double (*bend)(double)) {
  std::vector<stats::LengthGroup> out(13);
  for (size_t g = 0; g < out.size(); ++g)
    for (int i = 0; i < 15; ++i) {
      const double length = 36 + static_cast<double>(random.below(13)) + (g == 0 ? longer : 0);
      out[g].lengths.push_back(length);
      out[g].values.push_back(bend(length) + normal(random) + (g == 0 ? effect : 0));
    }
  return out;
}
double line(double x) { return 0.3 * x; }
double root(double x) { return 12 * std::sqrt(x); }      // as norms
double logarithm(double x) { return 25 * std::log(x); }  // as ranks
// Where a line would call a null an effect 52 times in a hundred.
double levelling(double x) { return 120 * (1 - std::exp(-x / 20)); }

TEST(SweepCoverage, LengthFreeEffects) {
  for (auto* bend : {line, root, logarithm, levelling})
    for (const int longer : {0, 8})
      for (const double d : {0.0, 1.0}) {
        const double covered = share(1000, 22, [&](Random& random) {
          const auto data = groups(random, d, longer, bend);
          return holds(stats::adjusted_effect(data, 0, 1, {.draws = 400, .seed = random.next()}).d,
                       d);
        });
        const double rejected = share(2000, 23, [&](Random& random) {
          return stats::adjusted_effect(groups(random, 0, longer, bend), 0, 1, {.draws = 0}).p <=
                 0.05;
        });
        std::printf("curve %d, %d longer, d = %.1f: covered %.3f, p <= .05 of a null %.3f\n",
                    bend == line        ? 0
                    : bend == root      ? 1
                    : bend == logarithm ? 2
                                        : 3,
                    longer, d, covered, rejected);
        EXPECT_GE(covered, 0.93);
        EXPECT_LE(covered, 0.97);
        EXPECT_GE(rejected, 0.035);
        EXPECT_LE(rejected, 0.065);
      }
}

std::vector<Signature> null_signatures(uint64_t seed) {
  Random random(seed);
  constexpr int kFeatures = 12;
  std::vector<Signature> out;
  for (int64_t p = 0; p < 6; ++p)
    for (int64_t w = 0; w < 4; ++w) {
      std::vector<double> text(kFeatures);
      for (double& v : text) v = normal(random);
      for (int64_t q = 0; q < 10; ++q) {
        Signature s{p, w, q / 5, q, {}, 60 + static_cast<double>(random.below(20))};
        for (const double v : text) s.features.push_back(v + 0.4 * normal(random));
        out.push_back(std::move(s));
      }
    }
  return out;
}

// Texts differ, personas do not: the share of p <= .05 among nulls.
TEST(SweepCoverage, PermutationTestKeepsItsLevel) {
  const double rejected = share(1000, 24, [](Random& random) {
    const uint64_t seed = random.next();
    return leave_out(null_signatures(seed), 6, 99, seed).p <= 0.05;
  });
  std::printf("rejected %.3f\n", rejected);
  EXPECT_GE(rejected, 0.04);
  EXPECT_LE(rejected, 0.06);
}

}  // namespace
}  // namespace kvlingua
