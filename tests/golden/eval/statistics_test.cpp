// eval/statistics against scipy, statsmodels and scikit-learn
// (scripts/goldens/statistics_goldens.py): 1e-6 everywhere.
#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/statistics/distributions.h"

namespace kvlingua::stats {
namespace {

using nlohmann::json;
constexpr double kTolerance = 1e-6;

const json& golden() {
  static const json data =
      json::parse(std::ifstream(KVLINGUA_TEST_DATA "/statistics/statistics.json"));
  return data;
}

std::vector<double> numbers(const json& value) { return value.get<std::vector<double>>(); }

void expect_close(double got, double want, const std::string& what) {
  EXPECT_NEAR(got, want, kTolerance * std::max(1.0, std::abs(want))) << what;
}

TEST(StatisticsGolden, WilsonAndClopperPearson) {
  for (const json& row : golden()["proportions"]) {
    const Interval w = wilson(row["k"], row["n"], row["confidence"]);
    expect_close(w.low, row["wilson"][0], row.dump());
    expect_close(w.high, row["wilson"][1], row.dump());
    const Interval c = clopper_pearson(row["k"], row["n"], row["confidence"]);
    expect_close(c.low, row["clopper_pearson"][0], row.dump());
    expect_close(c.high, row["clopper_pearson"][1], row.dump());
  }
}

TEST(StatisticsGolden, McNemar) {
  for (const json& row : golden()["mcnemar"]) {
    const TestResult result = mcnemar_exact(row["b"], row["c"]);
    expect_close(result.statistic, row["statistic"], row.dump());
    expect_close(result.p, row["p"], row.dump());
  }
}

TEST(StatisticsGolden, TwoSamples) {
  for (const json& row : golden()["two_samples"]) {
    const auto a = numbers(row["a"]), b = numbers(row["b"]);
    const WelchResult w = welch(a, b);
    expect_close(w.statistic, row["welch"]["t"], "t");
    expect_close(w.df, row["welch"]["df"], "df");
    expect_close(w.p, row["welch"]["p"], "welch p");
    expect_close(w.difference.low, row["welch"]["low"], "welch low");
    expect_close(w.difference.high, row["welch"]["high"], "welch high");
    const TestResult u = mann_whitney(a, b);
    expect_close(u.statistic, row["mann_whitney"]["u"], "u");
    expect_close(u.p, row["mann_whitney"]["p"], "mann-whitney p");
    expect_close(cohens_d(a, b), row["cohens_d"], "d");
    expect_close(hedges_g(a, b), row["hedges_g"], "g");
  }
}

TEST(StatisticsGolden, SpearmanAndHolm) {
  for (const json& row : golden()["spearman"]) {
    const TestResult result = spearman(numbers(row["x"]), numbers(row["y"]));
    expect_close(result.statistic, row["rho"], "rho");
    expect_close(result.p, row["p"], "p");
  }
  for (const json& row : golden()["holm"]) {
    const auto adjusted = holm(numbers(row["p"]));
    for (size_t i = 0; i < adjusted.size(); ++i)
      expect_close(adjusted[i], row["adjusted"][i], row.dump());
  }
}

TEST(StatisticsGolden, Equivalence) {
  for (const json& row : golden()["tost_means"]) {
    const Tost result = tost_means(numbers(row["a"]), numbers(row["b"]), row["low"], row["high"]);
    expect_close(result.p, row["p"], "p");
    expect_close(result.p_low, row["p_low"], "p_low");
    expect_close(result.p_high, row["p_high"], "p_high");
  }
  for (const json& row : golden()["tango"]) {
    const int64_t b = row["b"], c = row["c"], n = row["n"];
    const PairedCounts counts{.only_first = b, .only_second = c, .neither = n - b - c};
    expect_close(tango_z(counts, row["delta"]), row["z"], row.dump());
  }
  for (const json& row : golden()["tango_interval"]) {
    const int64_t b = row["b"], c = row["c"], n = row["n"];
    const Interval interval =
        paired_difference({.only_first = b, .only_second = c, .neither = n - b - c});
    expect_close(interval.low, row["low"], row.dump());
    expect_close(interval.high, row["high"], row.dump());
  }
}

TEST(StatisticsGolden, BcaOfGivenReplicates) {
  for (const json& row : golden()["bca"]) {
    const Interval interval =
        bca_interval(row["estimate"], numbers(row["replicates"]), numbers(row["jackknife"]), 0.95);
    expect_close(interval.low, row["low"], "low");
    expect_close(interval.high, row["high"], "high");
  }
  const json& row = golden()["bca_effect"];
  const auto a = numbers(row["a"]), b = numbers(row["b"]);
  const Interval interval = bca_interval(cohens_d(a, b), numbers(row["replicates"]),
                                         jackknife_influence(a, b, &cohens_d), 0.95);
  expect_close(interval.low, row["low"], "d low");
  expect_close(interval.high, row["high"], "d high");
}

TEST(StatisticsGolden, RegressionAndClusters) {
  const json& row = golden()["regression"];
  const auto y = numbers(row["y"]), length = numbers(row["length"]), other = numbers(row["other"]);
  const auto groups = row["groups"].get<std::vector<int64_t>>();
  const OlsResult plain = ols(y, {length, other}), clustered = ols(y, {length, other}, groups);
  for (size_t i = 0; i < 3; ++i) {
    expect_close(plain.coefficients[i], row["coefficients"][i], "coefficient");
    expect_close(plain.standard_errors[i], row["standard_errors"][i], "error");
    expect_close(plain.p[i], row["p"][i], "p");
    expect_close(clustered.standard_errors[i], row["clustered_errors"][i], "clustered error");
    expect_close(clustered.p[i], row["clustered_p"][i], "clustered p");
  }
  const Interval mean = clustered_mean(y, groups);
  expect_close(mean.estimate, row["mean"], "mean");
  expect_close(mean.low, row["mean_interval"][0], "mean low");
  expect_close(mean.high, row["mean_interval"][1], "mean high");
  const auto left = residualise(y, {length});
  for (size_t i = 0; i < left.size(); ++i)
    expect_close(left[i], row["residuals_of_length"][i], "residual");
  expect_close(ols(y, {length}).r_squared, row["r_squared_of_length"], "r2");
}

TEST(StatisticsGolden, Power) {
  const json& power = golden()["power"];
  for (const json& row : power["paired_t"])
    expect_close(power_paired_t(row["effect"], row["n"]), row["power"], row.dump());
  for (const json& row : power["proportions"])
    expect_close(power_two_proportions(row["first"], row["second"], row["n"]), row["power"],
                 row.dump());
  for (const json& row : power["mcnemar"])
    expect_close(power_mcnemar(row["first"], row["second"], row["n"]), row["power"], row.dump());
}

}  // namespace
}  // namespace kvlingua::stats
