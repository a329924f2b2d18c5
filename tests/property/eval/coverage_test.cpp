// What an interval or a test promises, held against 2,000 simulated data sets each: 95 % intervals
// cover 93 to 97 %, tests at 5 % reject a true null at most about 5 % of the time. Seeds are fixed,
// so the outcome is too.
#include <gtest/gtest.h>

#include <cmath>

#include "eval/statistics.h"
#include "kvlingua/base/random.h"

namespace kvlingua::stats {
namespace {

constexpr int kSets = 2000;

double gaussian(Random& random) {  // Box-Muller
  const double u = 1 - random.uniform(), v = random.uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v);
}

int64_t binomial(Random& random, int64_t n, double p) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += random.chance(p);
  return count;
}

template <class OneSet>
double share(uint64_t seed, const OneSet& one_set) {
  Random random(seed);
  int hits = 0;
  for (int i = 0; i < kSets; ++i) hits += one_set(random) ? 1 : 0;
  return static_cast<double>(hits) / kSets;
}

void expect_covers(double coverage) {
  EXPECT_GE(coverage, 0.93);
  EXPECT_LE(coverage, 0.97);
}

bool holds(const Interval& interval, double truth) {
  return interval.low <= truth && truth <= interval.high;
}

TEST(Coverage, Wilson) {
  for (double p : {0.3, 0.5, 0.9})
    expect_covers(share(11, [&](Random& r) { return holds(wilson(binomial(r, 200, p), 200), p); }));
}

TEST(Coverage, ClopperPearsonIsNeverBelow) {
  for (double p : {0.05, 0.5, 0.97})
    EXPECT_GE(
        share(12, [&](Random& r) { return holds(clopper_pearson(binomial(r, 100, p), 100), p); }),
        0.95 - 0.01);
}

TEST(Coverage, PairedDifferenceOfRates) {
  expect_covers(share(13, [&](Random& r) {
    PairedCounts counts;
    for (int i = 0; i < 200; ++i) {
      const double u = r.uniform();
      ++(u < 0.10 ? counts.only_first : u < 0.16 ? counts.only_second : counts.both);
    }
    return holds(paired_difference(counts), 0.04);
  }));
}

TEST(Coverage, MeanAndWelch) {
  expect_covers(share(14, [&](Random& r) {
    std::vector<double> x(12);
    for (double& v : x) v = 2 + gaussian(r);
    return holds(mean_interval(x.data(), 12), 2);
  }));
  expect_covers(share(15, [&](Random& r) {
    std::vector<double> a(15), b(25);
    for (double& v : a) v = 1 + gaussian(r);
    for (double& v : b) v = 3 * gaussian(r);
    return holds(welch(a, b).difference, 1);
  }));
}

TEST(Coverage, PairedBootstrap) {
  expect_covers(share(16, [&](Random& r) {
    std::vector<double> a(80), b(80);
    for (size_t i = 0; i < a.size(); ++i) {
      const double common = gaussian(r);
      a[i] = 0.5 + common + gaussian(r);
      b[i] = common;
    }
    return holds(bootstrap_difference(a, b, {.resamples = 600, .seed = r.next()}), 0.5);
  }));
  // The ratio of two success rates, as the gates use it.
  expect_covers(share(17, [&](Random& r) {
    std::vector<double> a(200), b(200);
    for (size_t i = 0; i < a.size(); ++i) {
      const bool full = r.chance(0.9);
      b[i] = full;
      a[i] = full ? r.chance(0.85) : r.chance(0.2);
    }
    return holds(bootstrap_ratio(a, b, {.resamples = 400, .seed = r.next()}),
                 (0.9 * 0.85 + 0.1 * 0.2) / 0.9);
  }));
}

TEST(Coverage, EffectSizeBootstrap) {
  // Truth: means one apart, both deviations one.
  expect_covers(share(18, [&](Random& r) {
    std::vector<double> a(60), b(60);
    for (double& v : a) v = 1 + gaussian(r);
    for (double& v : b) v = gaussian(r);
    return holds(hedges_g_interval(a, b, {.resamples = 400, .seed = r.next()}), 1);
  }));
}

TEST(Coverage, ClusteredMean) {
  const auto draw = [](Random& r, std::vector<double>& y, std::vector<int64_t>& groups) {
    for (int64_t g = 0; g < 60; ++g) {
      const double shared = gaussian(r);
      for (int i = 0; i < 5; ++i) {
        y.push_back(shared + 0.5 * gaussian(r));
        groups.push_back(g);
      }
    }
  };
  expect_covers(share(19, [&](Random& r) {
    std::vector<double> y;
    std::vector<int64_t> groups;
    draw(r, y, groups);
    return holds(clustered_mean(y, groups), 0);
  }));
  // And it matters: taken as independent, the same items give an interval that misses far too
  // often.
  EXPECT_LT(share(19,
                  [&](Random& r) {
                    std::vector<double> y;
                    std::vector<int64_t> groups;
                    draw(r, y, groups);
                    return holds(mean_interval(y.data(), static_cast<int64_t>(y.size())), 0);
                  }),
            0.8);
}

TEST(ErrorRate, McNemarAndTost) {
  const auto counts = [](Random& r, double first, double second) {
    PairedCounts c;
    for (int i = 0; i < 200; ++i) {
      const double u = r.uniform();
      ++(u < first ? c.only_first : u < first + second ? c.only_second : c.both);
    }
    return c;
  };
  EXPECT_LE(share(20,
                  [&](Random& r) {
                    const PairedCounts c = counts(r, 0.1, 0.1);
                    return mcnemar_exact(c.only_first, c.only_second).p <= 0.05;
                  }),
            0.05);
  // At the margin itself equivalence must be claimed at most 5 % of the time (three standard errors
  // of simulation allowed).
  const double at_margin = share(21, [&](Random& r) {
    return tost_proportions(counts(r, 0.08, 0.03), -0.05, 0.05).p <= 0.05;
  });
  EXPECT_LE(at_margin, 0.05 + 3 * std::sqrt(0.05 * 0.95 / kSets));
  EXPECT_GE(at_margin, 0.02) << "a test that never rejects shows nothing";
  const double means = share(22, [&](Random& r) {
    std::vector<double> a(40), b(40, 0.0);
    for (double& v : a) v = 0.5 + gaussian(r);
    return tost_means(a, b, -0.5, 0.5).p <= 0.05;
  });
  EXPECT_LE(means, 0.05 + 3 * std::sqrt(0.05 * 0.95 / kSets));
  EXPECT_GE(means, 0.02);
}

TEST(ErrorRate, HolmHoldsTheFamily) {
  const double family = share(23, [&](Random& r) {
    std::vector<double> p;
    for (int test = 0; test < 6; ++test) {
      std::vector<double> a(20), b(20);
      for (double& v : a) v = gaussian(r);
      for (double& v : b) v = gaussian(r);
      p.push_back(welch(a, b).p);
    }
    const auto adjusted = holm(p);
    return std::any_of(adjusted.begin(), adjusted.end(), [](double v) { return v <= 0.05; });
  });
  EXPECT_LE(family, 0.05 + 3 * std::sqrt(0.05 * 0.95 / kSets));
}

}  // namespace
}  // namespace kvlingua::stats
