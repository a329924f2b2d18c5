// Planted truths: a length difference is neither a mode nor an identity, a persona's own signal is
// one, and repeats of a prompt do not count.
#include <gtest/gtest.h>

#include <cmath>

#include "eval/personas/signatures.h"
#include "eval/statistics/comparison.h"
#include "eval/sweep/modes.h"
#include "kvlingua/base/random.h"

namespace kvlingua {
namespace {

double normal(Random& random) {
  return std::sqrt(-2 * std::log(1 - random.uniform())) *
         std::cos(6.283185307179586 * random.uniform());
}

// One layer of which only the total norm matters.
Measurement prompt(const std::string& id, double norm, int64_t tokens) {
  Measurement m{.id = id, .input_tokens = tokens, .cache_tokens = tokens + 29};
  m.geometry.keys = {{norm}, {0}, {1}, {norm / 1000}, {0.5}};
  m.geometry.values = m.geometry.keys;
  return m;
}

MeasuredScale planted(double effect, int64_t longer) {
  Random random(5);
  MeasuredScale scale;
  scale.scale = {"custom", "planted", false, 1};
  scale.num_layers = 1;
  for (const char* name : {"coding", "grounded_facts", "creative", "emotional"}) {
    MeasuredCategory category{name, {}, 0};
    for (int64_t i = 0; i < 15; ++i) {
      const bool first = std::string(name) == "coding";
      const int64_t tokens = 12 + static_cast<int64_t>(random.below(9)) + (first ? longer : 0);
      const double norm = 5000 + 300.0 * static_cast<double>(tokens) + 100 * normal(random) +
                          (first ? 100 * effect : 0);
      category.prompts.push_back(
          prompt(std::string(name) + "/" + std::to_string(i + 1), norm, tokens));
    }
    scale.categories.push_back(std::move(category));
  }
  return scale;
}

SweepOptions quick() {
  SweepOptions options;
  options.bootstrap = 1000;
  return options;
}

TEST(Planted, ALengthDifferenceIsNoMode) {
  const auto result = analyse_scale(planted(0, 12), quick());
  const auto& code = result["analysis"]["pairwise_comparisons"]["code_vs_facts"];
  EXPECT_GT(code["cohens_d"]["d"].get<double>(), 2);  // what a report without lengths would say
  EXPECT_LE(code["p_holm"].get<double>(), 0.05);
  EXPECT_NE(code["verdict"], "shown");
  EXPECT_TRUE(code["length_artefact"].get<bool>());
}

TEST(Planted, AnEffectBesideLengthIsFound) {
  const auto result = analyse_scale(planted(3, 4), quick());
  const auto& code = result["analysis"]["pairwise_comparisons"]["code_vs_facts"];
  EXPECT_EQ(code["verdict"], "shown");
  EXPECT_NEAR(code["length_adjusted"]["estimate"].get<double>(), 3, 1.2);
  EXPECT_EQ(result["analysis"]["pairwise_comparisons"]["ambiguity_effect"].contains("error"), true);
}

TEST(Planted, RepeatedPromptsAreOne) {
  const auto encode = [](const std::string& text) {
    return std::vector<int64_t>(text.begin(), text.end());
  };
  const CategoryRequests requests =
      make_requests({{"coding", {"abc", "abd", "abc", "abc"}}}, encode);
  EXPECT_EQ(requests.requests.size(), 2u);
  EXPECT_EQ(requests.repeated, std::vector<int64_t>{2});
}

// Six personas, four wordings, 25 prompts in five groups. `persona`: the size of what a persona's
// wordings share; `longer`: tokens that each persona has more than the one before.
std::vector<Signature> signatures(double persona, double text, double longer, uint64_t seed) {
  Random random(seed);
  constexpr int kFeatures = 12;
  std::vector<std::vector<double>> own(6, std::vector<double>(kFeatures)), texts(24, own[0]);
  for (auto& v : own)
    for (double& x : v) x = persona * normal(random);
  for (auto& v : texts)
    for (double& x : v) x = text * normal(random);
  std::vector<Signature> out;
  for (int64_t p = 0; p < 6; ++p)
    for (int64_t w = 0; w < 4; ++w)
      for (int64_t q = 0; q < 25; ++q) {
        Signature s{
            p, w,  q / 5,
            q, {}, 60 + static_cast<double>(random.below(20)) + longer * static_cast<double>(p)};
        for (int f = 0; f < kFeatures; ++f)
          s.features.push_back(own[static_cast<size_t>(p)][static_cast<size_t>(f)] +
                               texts[static_cast<size_t>(4 * p + w)][static_cast<size_t>(f)] +
                               0.4 * normal(random) + 0.5 * s.length);
        out.push_back(std::move(s));
      }
  return out;
}

IdentityDesign design() {
  IdentityDesign d;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
    d.personas.push_back({name, name, name, {}, {"1", "2", "3", "4"}});
    d.topics.push_back(d.personas.back());
  }
  d.groups = {{"all", {"q"}}};
  return d;
}

std::string verdict(const std::vector<Signature>& personas, const std::vector<Signature>& topics) {
  IdentityOptions options;
  options.permutations = 199;
  options.bootstrap = 500;
  return analyse_signatures(personas, topics, design(), options)["verdict"]["identity"];
}

TEST(Planted, APersonaIsFound) {
  EXPECT_EQ(verdict(signatures(1.5, 0.5, 0, 1), signatures(0, 1, 0, 2)), "identity");
}

TEST(Planted, LengthAloneIsNoIdentity) {
  const std::vector<Signature> longer = signatures(0, 0, 12, 3);
  // What a design without lengths would find:
  // a linear classifier tells the shortest and the longest.
  EXPECT_LE(leave_out(longer, 6, 39, 0).p, 0.05);
  EXPECT_NE(verdict(longer, signatures(0, 0, 0, 4)), "identity");
}

TEST(Planted, TextsThatShareNothingAreNoIdentity) {
  const std::vector<Signature> texts = signatures(0, 1.5, 0, 5);
  std::vector<Signature> known = texts;
  for (Signature& s : known) s.wording = 0;
  EXPECT_GT(leave_out(known, 6, 0, 0).accuracy, 0.6);  // what leaving groups out alone would find
  EXPECT_NE(verdict(texts, signatures(0, 1.5, 0, 6)), "identity");
}

// The permutation test keeps its level where texts differ but personas do not.
TEST(Planted, PermutationKeepsItsLevel) {
  int rejected = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<Signature> few;
    for (Signature& s : signatures(0, 1, 0, 100 + seed))
      if (s.prompt % 5 == 0) few.push_back(std::move(s));
    rejected += leave_out(few, 6, 39, seed).p <= 0.05;
  }
  EXPECT_LE(rejected, 9);  // binomial(60, .05) exceeds 9 once in 5,000
}

}  // namespace
}  // namespace kvlingua
