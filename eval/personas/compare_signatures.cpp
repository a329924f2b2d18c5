#include "eval/personas/compare_signatures.h"

#include <cmath>
#include <string>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kPairClaim = 0.3, kConsistent = 0.5;

// NaN: no number stands there.
template <class J>
double number_at(const J& json, const char* pointer) {
  const typename J::json_pointer at(pointer);
  if (!json.contains(at) || !json.at(at).is_number()) return NAN;
  return json.at(at).template get<double>();
}

template <class J>
J part(const J& json, const char* pointer) {
  const typename J::json_pointer at(pointer);
  return json.contains(at) ? json.at(at) : J();
}

Json or_null(double value) { return std::isfinite(value) ? Json(value) : Json(); }

// Of a claim that something lies above `bound`, by our interval of it.
std::string above(const Json& interval, double bound) {
  const double low = number_at(interval, "/low"), high = number_at(interval, "/high");
  if (std::isnan(low) || std::isnan(high)) return "not measured here";
  return low > bound ? "yes" : high < bound ? "no" : "undecided";
}

Json row(std::string finding, double old, bool claims, Json now, const std::string& survives) {
  return {{"finding", std::move(finding)},
          {"old", or_null(old)},
          {"old_claims", claims},
          {"new", std::move(now)},
          {"survives", claims ? survives : "made no claim"}};
}

// An effect of the same sign whose interval leaves out zero; none within their own threshold.
std::string pair_survives(const Json& ours, double old) {
  const double low = number_at(ours, "/low"), high = number_at(ours, "/high");
  if (std::isnan(low) || std::isnan(high)) return "not measured here";
  if (low > 0 || high < 0) return (low > 0) == (old > 0) ? "yes" : "the other way round";
  return low > -kPairClaim && high < kPairClaim ? "no" : "undecided";
}

void pairs(const Json& now, const nlohmann::json& old, Json& rows) {
  const Json ours = part(now, "/pairwise_analysis/pairwise_norm_comparisons");
  const nlohmann::json theirs = part(old, "/pairwise_analysis/pairwise_norm_comparisons");
  if (!theirs.is_object()) return;
  for (const auto& [key, one] : theirs.items()) {
    const double d = number_at(one, "/cohens_d/d");
    if (std::isnan(d)) continue;
    const Json mine =
        ours.is_object() && ours.contains(key) ? part(ours[key], "/length_adjusted") : Json();
    rows.push_back(row(key, d, std::abs(d) > kPairClaim, mine, pair_survives(mine, d)));
  }
}

// "Personas can be told apart": ours says so only above length and above neutral topics.
void told_apart(const Json& now, const nlohmann::json& old, Json& rows) {
  const double p = number_at(old, "/classification/permutation_test/p_value");
  if (std::isnan(p)) return;
  const Json said = part(now, "/verdict/identity");
  const std::string verdict = said.is_string() ? said.get<std::string>() : "undecided";
  rows.push_back(row("personas told apart (permutation p)", p, p < 0.05,
                     part(now, "/classification/rows/personas"),
                     verdict == "identity" ? "yes"
                     : verdict == "none"   ? "no"
                                           : "undecided"));
}

// Groups of prompts left out, wordings known: neutral topics do as well there.
void across_prompts(const Json& now, const nlohmann::json& old, const IdentityOptions& options,
                    Json& rows) {
  const double accuracy = number_at(old, "/classification/cross_prompt_validation/mean_accuracy"),
               chance = number_at(old, "/classification/chance_level");
  if (std::isnan(accuracy) || std::isnan(chance)) return;
  const Json ours = part(now, "/classification/above/neutral_topics");
  const double low = number_at(ours, "/low"), high = number_at(ours, "/high");
  rows.push_back(row("accuracy in prompts left out, above chance", accuracy, accuracy > chance,
                     ours,
                     std::isnan(low)         ? "not measured here"
                     : low > 0               ? "yes"
                     : high < options.margin ? "no"
                                             : "undecided"));
}

}  // namespace

Json compare_signatures(const Json& now, const nlohmann::json& old,
                        const IdentityOptions& options) {
  if (!old.is_object() || !old.contains("classification") || !old.contains("pairwise_analysis"))
    throw Error({.code = ExitCode::kInput,
                 .where = "--compare",
                 .what = "not a results file of identity signatures",
                 .expected = "an object with classification and pairwise_analysis"});
  Json rows = Json::array();
  told_apart(now, old, rows);
  across_prompts(now, old, options, rows);
  if (const double icc = number_at(old, "/consistency/icc"); !std::isnan(icc)) {
    const Json ours = part(now, "/consistency/icc_2_1");
    rows.push_back(row("consistency over prompts (ICC)", icc, icc > kConsistent, ours,
                       above(ours, kConsistent)));
  }
  pairs(now, old, rows);
  return rows;
}

}  // namespace kvlingua
