// eval/geometry and the statistics beside it against transformers' caches with numpy's singular
// values, scipy and scikit-learn (scripts/goldens/sweep_features.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/geometry/measure.h"
#include "eval/personas/classifiers.h"
#include "eval/personas/signatures.h"
#include "eval/statistics/agreement.h"
#include "eval/statistics/normality.h"

namespace kvlingua {
namespace {

using nlohmann::json;

const json& golden() {
  static const json data = json::parse(std::ifstream(KVLINGUA_TEST_DATA "/sweep/sweep.json"));
  return data;
}

void expect_side(const SideGeometry& got, const json& want, double tolerance) {
  ASSERT_EQ(got.norm.size(), want["norm"].size());
  for (size_t l = 0; l < got.norm.size(); ++l) {
    const auto close = [&](double a, double b, double scale) {
      EXPECT_NEAR(a, b, tolerance * std::max(std::abs(b), scale)) << "layer " << l;
    };
    close(got.norm[l], want["norm"][l], 0);
    close(got.mean[l], want["mean"][l], want["deviation"][l].get<double>());
    close(got.deviation[l], want["deviation"][l], 0);
    close(got.entropy[l], want["entropy"][l], 0);
    EXPECT_EQ(got.rank[l], want["rank"][l].get<double>()) << "layer " << l;
  }
}

json side_json(const SideGeometry& s) {
  return {{"norm", s.norm},
          {"mean", s.mean},
          {"deviation", s.deviation},
          {"rank", s.rank},
          {"entropy", s.entropy}};
}

CausalLM tiny(const std::string& name) {
  return CausalLM::load(std::string(KVLINGUA_TEST_DATA "/model/") + name);
}

TEST(SweepGolden, FeaturesOfThreeArchitectures) {
  for (const auto& [name, want] : golden()["features"].items()) {
    SCOPED_TRACE(name);
    const CausalLM model = tiny(name);
    MeasureOptions options;
    options.new_tokens = 0;
    const auto m =
        measure_batch(model, {{"a", want["tokens"].get<std::vector<int64_t>>()}}, options);
    ASSERT_TRUE(m[0].ok()) << m[0].failure;
    EXPECT_EQ(m[0].cache_tokens, 48);
    expect_side(m[0].geometry.keys, want["keys"], 1e-4);
    expect_side(m[0].geometry.values, want["values"], 1e-4);
  }
}

// A batch with padding measures what single runs do, and the cache after writing is that of reading
// the prompt with all but the last written token.
TEST(SweepGolden, BatchesAndWrittenTokens) {
  const auto tokens = golden()["features"]["qwen2_tied"]["tokens"].get<std::vector<int64_t>>();
  const CausalLM model = tiny("qwen2_tied");
  std::vector<MeasureRequest> requests;
  for (const int64_t n : {5, 17, 9, 30, 1, 12, 22, 8})
    requests.push_back({std::to_string(n), {tokens.begin(), tokens.begin() + n}});
  MeasureOptions writing;
  writing.new_tokens = 7;
  // An end token that some row writes: its cache ends before the others'.
  writing.stop_ids = {measure_batch(model, {requests[1]}, writing)[0].written[3]};
  MeasureOptions reading;
  reading.new_tokens = 0;
  bool early = false;
  const auto together = measure_batch(model, requests, writing);
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(requests[i].id);
    const Measurement alone = measure_batch(model, {requests[i]}, writing)[0];
    ASSERT_EQ(alone.written, together[i].written);
    EXPECT_EQ(alone.cache_tokens,
              static_cast<int64_t>(requests[i].ids.size() + alone.written.size()) - 1);
    early = early || alone.written.size() < 7;
    std::vector<int64_t> read = requests[i].ids;
    read.insert(read.end(), alone.written.begin(), alone.written.end() - 1);
    const Measurement prefilled = measure_batch(model, {{"r", read}}, reading)[0];
    for (const Measurement* other : {&together[i], &prefilled}) {
      expect_side(other->geometry.keys, side_json(alone.geometry.keys), 1e-4);
      expect_side(other->geometry.values, side_json(alone.geometry.values), 1e-4);
    }
  }
  EXPECT_TRUE(early);
}

TEST(SweepGolden, ShapiroWilk) {
  for (const json& row : golden()["shapiro"]) {
    const stats::Normality got = stats::shapiro_wilk(row["values"].get<std::vector<double>>());
    EXPECT_NEAR(got.w, row["w"].get<double>(), 1e-6) << row["values"].size();
    EXPECT_NEAR(got.p, row["p"].get<double>(), 1e-6) << row["values"].size();
  }
}

TEST(SweepGolden, Agreement) {
  for (const json& row : golden()["agreement"]) {
    const auto table = row["table"].get<stats::Ratings>();
    EXPECT_NEAR(stats::icc_two_way(table).estimate, row["icc"].get<double>(), 1e-6);
    EXPECT_NEAR(stats::kendall_w(table).statistic, row["w"].get<double>(), 1e-6);
    EXPECT_NEAR(stats::kendall_w(table).p, row["w_p"].get<double>(), 1e-6);
    EXPECT_NEAR(stats::variance_ratio(table).icc, row["ratio_icc"].get<double>(), 1e-6);
  }
}

TEST(SweepGolden, RidgeWithOneWordingLeftOut) {
  const json& g = golden()["ridge"];
  std::vector<Signature> all;
  for (size_t i = 0; i < g["y"].size(); ++i)
    all.push_back({g["y"][i], g["wording"][i], 0, static_cast<int64_t>(i), g["x"][i], 10});
  const LeaveOut got = leave_out(all, 4, 0, 0);
  const int64_t penalties[] = {1, 30, 1000};
  for (size_t p = 0; p < 3; ++p) {
    const auto want = g["predicted"][std::to_string(penalties[p])].get<std::vector<int64_t>>();
    double right = 0;
    for (size_t i = 0; i < all.size(); ++i) right += want[i] == all[i].label;
    EXPECT_DOUBLE_EQ(got.by_penalty[p], right / 60) << penalties[p];
    if (static_cast<double>(penalties[p]) == got.penalty) {
      EXPECT_EQ(got.predicted, want);
    }
  }
}

TEST(SweepGolden, RankCorrelations) {
  for (const json& row : golden()["spearman"]) {
    const auto got = stats::spearman_exact(row["x"], row["y"]);
    EXPECT_NEAR(got.statistic, row["rho"].get<double>(), 1e-6);
    EXPECT_NEAR(got.p, row["p"].get<double>(), 1e-6) << row.dump();
  }
  for (const json& row : golden()["partial"])
    EXPECT_NEAR(stats::partial_spearman(row["x"], row["y"], row["z"]), row["rho"].get<double>(),
                1e-6);
}

// Over the same folds: closed and convex ones to the letter, the others within two standard errors
// of what scikit-learn's accuracy is.
TEST(SweepGolden, ClassifiersOfThreeDataSets) {
  for (const json& set : golden()["classifiers"]) {
    const auto x = set["x"].get<FeatureRows>();
    const auto y = set["y"].get<std::vector<int64_t>>(),
               fold = set["fold"].get<std::vector<int64_t>>();
    for (const std::string& name : classifier_names()) {
      std::vector<int64_t> predicted(x.size(), -1);
      for (int64_t f = 0; f < 5; ++f) {
        FeatureRows train, test;
        std::vector<int64_t> labels;
        std::vector<size_t> asked;
        for (size_t i = 0; i < x.size(); ++i) {
          if (fold[i] == f)
            test.push_back(x[i]), asked.push_back(i);
          else
            train.push_back(x[i]), labels.push_back(y[i]);
        }
        const auto got = classify(name, train, labels, 3, test, {.trees = 100, .seed = 1});
        for (size_t i = 0; i < asked.size(); ++i) predicted[asked[i]] = got[i];
      }
      const auto want = set["predicted"][name].get<std::vector<int64_t>>();
      double ours = 0, theirs = 0;
      const auto n = static_cast<double>(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        ours += (predicted[i] == y[i]) / n;
        theirs += (want[i] == y[i]) / n;
      }
      EXPECT_NEAR(ours, theirs, 2 * std::sqrt(theirs * (1 - theirs) / n)) << set["name"] << name;
      if (name == "lda" || name == "logistic_regression") {
        EXPECT_EQ(predicted, want) << set["name"];
      }
    }
  }
}

TEST(SweepGolden, PrincipalComponents) {
  for (const json& set : golden()["classifiers"]) {
    const PrincipalComponents got = principal_components(set["x"].get<FeatureRows>());
    for (size_t c = 0; c < std::min<size_t>(got.explained.size(), set["explained"].size()); ++c)
      EXPECT_NEAR(got.explained[c], set["explained"][c].get<double>(), 1e-6) << set["name"];
    for (size_t r = 0; r < 20; ++r)
      for (size_t c = 0; c < 3; ++c)
        EXPECT_NEAR(std::abs(got.scores[r][c]), set["first_scores"][r][c].get<double>(), 1e-6);
  }
}

}  // namespace
}  // namespace kvlingua
