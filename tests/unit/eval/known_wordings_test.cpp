// What the published results files hold, under their keys, from planted features.
#include "eval/personas/known_wordings.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kvlingua/base/random.h"

namespace kvlingua {
namespace {

constexpr int64_t kPersonas = 3, kWordings = 2, kGroups = 2, kPrompts = 3;

IdentityDesign design() {
  IdentityDesign out;
  for (const char* key : {"a", "b", "c"}) out.personas.push_back({key, key, key, {}, {"x", "y"}});
  for (const char* name : {"first", "second"}) out.groups.push_back({name, {"p", "q", "r"}});
  return out;
}

// Two layers of noise. Every third feature is higher by `signal` for its persona; with `only` those
// of other numbers stay noise.
std::vector<Signature> planted(double signal, int only = -1) {
  Random random(3);
  std::vector<Signature> out;
  for (int64_t p = 0; p < kPersonas; ++p)
    for (int64_t w = 0; w < kWordings; ++w)
      for (int64_t g = 0; g < kGroups; ++g)
        for (int64_t q = 0; q < kPrompts; ++q) {
          Signature s{
              .label = p, .wording = w, .group = g, .prompt = g * kPrompts + q, .features = {}};
          for (int f = 0; f < 12; ++f) s.features.push_back(10 + random.uniform());
          for (int f = 0; f < 12; ++f)
            if (f % kPersonas == p && (only < 0 || f == only))
              s.features[static_cast<size_t>(f)] += signal;
          s.length = 20;
          out.push_back(s);
        }
  return out;
}

IdentityOptions quick() {
  IdentityOptions options;
  options.bootstrap = 200;
  options.trees = 50;
  return options;
}

TEST(KnownWordings, APlantedFeatureIsFoundAndNamed) {
  const auto found = known_wording_classification(planted(5), design(), quick());
  for (const char* name : {"random_forest", "linear_svm", "logistic_regression"}) {
    const auto& one = found["cv_results"][name];
    EXPECT_EQ(one["mean_accuracy"], 1.0) << name;
    EXPECT_EQ(one["fold_accuracies"].size(), 5U);
    EXPECT_EQ(one["std_accuracy"], 0.0);
  }
  EXPECT_EQ(found["best_classifier"], "random_forest");  // the first of equals
  EXPECT_EQ(found["holdout_accuracy"], 1.0);
  for (const char* key : {"a", "b", "c"}) {
    const auto& row = found["classification_report"][key];
    EXPECT_EQ(row["precision"], 1.0);
    EXPECT_EQ(row["recall"], 1.0);
    EXPECT_EQ(row["support"], 4) << "three of ten of 12";
  }
  EXPECT_EQ(found["cross_prompt_validation"]["per_group"].size(), 2U);
  EXPECT_EQ(found["cross_prompt_validation"]["per_group"]["second"], 1.0);
  EXPECT_EQ(found["cross_prompt_validation"]["above_chance"], true);
  const auto one = known_wording_classification(planted(5, 7), design(), quick());
  const auto& first = one["feature_importance"][0];
  EXPECT_EQ(first["layer"], 1);
  EXPECT_EQ(first["feature"], "value_norm");
  EXPECT_GT(first["importance"], 2 * one["feature_importance"][1]["importance"].get<double>());
  double sum = 0;
  for (const auto& row : found["feature_importance"]) sum += row["importance"].get<double>();
  EXPECT_NEAR(sum, 1, 1e-9);
}

TEST(KnownWordings, NoiseIsNearChance) {
  const auto found = known_wording_classification(planted(0), design(), quick());
  for (const char* name : {"random_forest", "linear_svm", "logistic_regression"})
    EXPECT_NEAR(found["cv_results"][name]["mean_accuracy"].get<double>(), 1.0 / 3, 0.26) << name;
  EXPECT_LT(found["feature_importance"][0]["importance"], 0.3);
}

TEST(KnownWordings, TooFewCachesForFiveFoldsAreNull) {
  std::vector<Signature> few;
  for (const Signature& s : planted(5))
    if (s.prompt < 2) few.push_back(s);
  const auto found = known_wording_classification(few, design(), quick());
  EXPECT_TRUE(found["cv_results"].is_null());
  EXPECT_TRUE(found["best_classifier"].is_null());
  EXPECT_TRUE(found["cross_prompt_validation"].is_null()) << "one group";
}

TEST(KnownWordings, CosinesAreThoseOfTheMeans) {
  IdentityDesign two = design();
  two.personas.resize(2);
  std::vector<Signature> signatures(3);
  signatures[0] = {.label = 0, .features = {1, 0}};
  signatures[1] = {.label = 0, .features = {3, 4}};
  signatures[2] = {.label = 1, .features = {0, 2}};
  const auto cosines = mean_feature_cosines(signatures, two);
  EXPECT_NEAR(cosines[0][0].get<double>(), 1, 1e-12);
  EXPECT_NEAR(cosines[0][1].get<double>(), 4 / std::sqrt(32.0), 1e-12);
  EXPECT_EQ(cosines[0][1], cosines[1][0]);
}

}  // namespace
}  // namespace kvlingua
