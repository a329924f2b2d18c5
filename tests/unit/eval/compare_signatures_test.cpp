// Older results of identity signatures, in the users' own format, looked at again.
#include "eval/personas/compare_signatures.h"

#include <gtest/gtest.h>

#include <map>

#include "eval/geometry/older_results.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

// As their script writes it: every claim is made.
nlohmann::json theirs() {
  return nlohmann::json::parse(R"({
    "classification": {
      "permutation_test": {"p_value": 0.0, "actual_score": 1.0, "significant": true},
      "cross_prompt_validation": {"mean_accuracy": 0.967, "above_chance": true},
      "chance_level": 0.1667},
    "pairwise_analysis": {"pairwise_norm_comparisons": {
      "assistant_vs_lyra": {"cohens_d": {"d": -1.9}, "recommended_p": 1e-9},
      "assistant_vs_analyst": {"cohens_d": {"d": -0.8}},
      "creative_vs_analyst": {"cohens_d": {"d": -0.6}},
      "creative_vs_lyra": {"cohens_d": {"d": -0.9}},
      "sage_vs_lyra": {"cohens_d": {"d": 0.1}},
      "nobody_vs_lyra": {"cohens_d": {"d": 2.0}},
      "broken": {"cohens_d": "none"}}},
    "consistency": {"icc": 0.6}})");
}

Json ours(const std::string& verdict, double neutral_low, double neutral_high) {
  const auto pair = [](double low, double high) {
    return Json{
        {"length_adjusted", {{"estimate", (low + high) / 2}, {"low", low}, {"high", high}}}};
  };
  return {{"classification",
           {{"rows", {{"personas", {{"estimate", .5}, {"low", .4}, {"high", .6}}}}},
            {"above",
             {{"neutral_topics",
               {{"estimate", (neutral_low + neutral_high) / 2},
                {"low", neutral_low},
                {"high", neutral_high}}}}}}},
          {"pairwise_analysis",
           {{"pairwise_norm_comparisons",
             {{"assistant_vs_lyra", pair(-2.4, -1.1)},
              {"assistant_vs_analyst", pair(0.2, 0.9)},
              {"creative_vs_analyst", pair(-0.2, 0.25)},
              {"creative_vs_lyra", pair(-0.7, 0.1)},
              {"sage_vs_lyra", pair(1, 2)}}}}},
          {"consistency", {{"icc_2_1", {{"estimate", .3}, {"low", .1}, {"high", .45}}}}},
          {"verdict", {{"identity", verdict}}}};
}

std::map<std::string, std::string> survivors(const Json& rows) {
  std::map<std::string, std::string> out;
  for (const Json& row : rows) out[row["finding"]] = row["survives"];
  return out;
}

TEST(CompareSignatures, SaysOfEachClaimWhatBecameOfIt) {
  const auto found = survivors(compare_signatures(ours("none", -.08, .06), theirs(), {}));
  EXPECT_EQ(found.at("personas told apart (permutation p)"), "no");
  EXPECT_EQ(found.at("accuracy in prompts left out, above chance"), "no");
  EXPECT_EQ(found.at("consistency over prompts (ICC)"), "no");
  EXPECT_EQ(found.at("assistant_vs_lyra"), "yes");
  EXPECT_EQ(found.at("assistant_vs_analyst"), "the other way round");
  EXPECT_EQ(found.at("creative_vs_analyst"), "no");
  EXPECT_EQ(found.at("creative_vs_lyra"), "undecided");
  EXPECT_EQ(found.at("sage_vs_lyra"), "made no claim");
  EXPECT_EQ(found.at("nobody_vs_lyra"), "not measured here");
  EXPECT_FALSE(found.contains("broken"));
  const auto well = survivors(compare_signatures(ours("identity", .1, .3), theirs(), {}));
  EXPECT_EQ(well.at("personas told apart (permutation p)"), "yes");
  EXPECT_EQ(well.at("accuracy in prompts left out, above chance"), "yes");
  const auto open = survivors(compare_signatures(ours("undecided", -.05, .2), theirs(), {}));
  EXPECT_EQ(open.at("personas told apart (permutation p)"), "undecided");
  EXPECT_EQ(open.at("accuracy in prompts left out, above chance"), "undecided");
}

TEST(CompareSignatures, AnotherFileIsRefused) {
  // Before anything is measured a file is only looked at.
  for (const Json& row : compare_signatures(Json::object(), theirs(), {}))
    EXPECT_TRUE(row["new"].is_null()) << row;
  for (const char* text : {"[]", "3", "{}", R"({"scales": {}})"})
    EXPECT_THROW(compare_signatures(ours("none", 0, 0), nlohmann::json::parse(text), {}), Error);
  // Of wrong types nothing is believed.
  const auto odd = nlohmann::json::parse(
      R"({"classification": [1], "pairwise_analysis": {"pairwise_norm_comparisons": [{"d": 1}]}, "consistency": {"icc": "x"}})");
  EXPECT_TRUE(compare_signatures(ours("none", 0, 0), odd, {}).empty());
}

TEST(OlderResults, PythonsNaNIsRead) {
  EXPECT_EQ(without_python_numbers(R"({"NaN \" Infinity": [NaN, -Infinity, Infinity, -1, "NaN"]})"),
            R"({"NaN \" Infinity": [null, null, null, -1, "NaN"]})");
  EXPECT_EQ(without_python_numbers("\"a\\"), "\"a\\");
}

}  // namespace
}  // namespace kvlingua
