#include "eval/judging/judgement.h"

#include <algorithm>
#include <cmath>

#include "eval/criteria/fused_gain.h"
#include "eval/criteria/identity.h"
#include "eval/criteria/parametric_knowledge.h"
#include "eval/criteria/stalling.h"
#include "eval/statistics/clustered.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

template <class List, class Value>
bool contains(const List& list, const Value& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string joined(const std::vector<std::string>& words, const char* last = " and ") {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? last : ", ") + words[i];
  return text;
}

// None where nothing could be shown by any number.
std::optional<Power> power_of(const CriterionResult& result, const EvalOptions& options) {
  const double ceiling = result.ceiling - result.floor;
  if (!(ceiling > 0) || result.n == 0) return std::nullopt;
  const double margin = options.confirm.margin, confidence = options.criteria.confidence;
  const auto at = [&](double truth) {
    return stats::power_of_share(result.threshold, truth, result.n, ceiling, result.gained,
                                 result.design_effect, confidence);
  };
  const int64_t needed =
      stats::items_for_power(options.confirm.power, result.threshold, result.threshold + margin,
                             ceiling, result.gained, result.design_effect, confidence);
  return Power{.n = result.n,
               .design_effect = result.design_effect,
               .gate = result.threshold,
               .margin = margin,
               .at_margin = at(result.threshold + margin),
               .at_one = at(std::max(1.0, result.threshold)),
               .power = options.confirm.power,
               .needed_n = needed > 0 ? std::optional(needed) : std::nullopt};
}

std::vector<CriterionResult> results_of(const JudgeInput& input, bool fuses) {
  const CriteriaOptions& gates = input.options.criteria;
  CriterionInput criterion{.answers = input.answers,
                           .gated = input.options.gated,
                           .threshold = gates.identity,
                           .confidence = gates.confidence,
                           .resamples = input.options.bootstrap,
                           .seed = input.seed,
                           .replicas = input.replicas,
                           .controls = compulsory_controls(false)};
  std::vector<CriterionResult> results{judge_identity(criterion)};
  criterion.threshold = gates.stalling;
  results.push_back(judge_stalling(criterion));
  criterion.threshold = gates.parametric_knowledge;
  results.push_back(judge_parametric_knowledge(criterion));
  if (contains(input.options.families, "needle")) {
    criterion.threshold = gates.needle;
    results.push_back(judge_needle(criterion));
  }
  if (!fuses) return results;
  for (CriterionResult& result : results) {
    if (result.name == "stalling") continue;
    result.verdict = Verdict::kNotApplicable;
    result.controls.clear();
    result.notes = {
        "not applicable: this projector fuses, so the target reads the context itself and being as "
        "good as full_text shows no transfer"};
  }
  criterion.threshold = gates.fused_gain;
  results.push_back(judge_fused_gain(criterion));
  return results;
}

void find_controls(const JudgeInput& input, bool fuses, const std::vector<CriterionResult>& results,
                   std::vector<Finding>& findings) {
  std::vector<std::string> missing;
  for (const auto& control : compulsory_controls(fuses))
    if (input.answers.empty(control)) missing.push_back(control);
  if (!missing.empty())
    findings.push_back(
        {"controls_missing",
         cat("no verdict without its controls: ", joined(missing), " not among eval.conditions"),
         true});
  for (const CriterionResult& result : results)
    for (const ControlShare& control : result.controls) {
      if (control.below) continue;
      findings.push_back(
          {"control_not_below_gate",
           fuses ? cat("the gain over ", control.name, " is not shown: ", control.statistic, " [",
                       control.low, ", ", control.high, "]")
                 : cat(control.name, " on ", result.name, " is ", control.statistic, " [",
                       control.low, ", ", control.high,
                       "]: not wholly below the gate, so the gate does not tell the judged "
                       "condition from a control"),
           true});
    }
}

// Families that are judged and that the checkpoint was not distilled on:
// there its templates are new to it.
std::vector<std::string> left_out(const JudgeInput& input, const CriterionResult& result) {
  std::vector<std::string> names;
  if (input.trained_families.empty() || result.name == "stalling") return names;
  for (const auto& family : result.families)
    if (!contains(input.trained_families, family) && !input.answers.of("full_text", family).empty())
      names.push_back(family);
  return names;
}

// The verdict in one sentence: how it was looked for, what it speaks of, what it does not.
std::string line_of(const JudgeInput& input, bool fuses, const Judgement& judgement) {
  std::vector<std::string> said, judged, untrained, silent;
  for (const CriterionResult& one : judgement.criteria) {
    if (one.verdict == Verdict::kNotApplicable) continue;
    said.push_back(
        cat(one.name, " ",
            one.verdict == Verdict::kPass && !input.confirm ? "met" : to_string(one.verdict)));
    for (const auto& family : one.families)
      if (one.name != "stalling" && !contains(judged, family) &&
          !input.answers.of("full_text", family).empty())
        judged.push_back(family);
    for (const auto& family : left_out(input, one))
      if (!contains(untrained, family)) untrained.push_back(family);
  }
  for (const auto& family : input.answers.families("full_text")) {
    if (family == "cases") continue;
    if (!contains(judged, family)) silent.push_back(family);
  }
  const auto seeds = 1 + input.replicas.size();
  std::string line =
      cat(input.confirm ? "Confirmatory" : "Exploratory", ": ", input.options.gated, ", ",
          seeds == 1 ? std::string("this checkpoint") : cat(seeds, " training seeds"),
          fuses ? ", context-aware (it fuses; the target reads the text too)"
                : ", context-unaware (the target never reads the text)");
  if (!judged.empty()) {
    line += cat(", on held-out values of ", joined(judged));
    if (!input.trained_families.empty())
      line += untrained.empty() ? std::string(" in the templates it was trained on")
                                : cat(" (", joined(untrained), " left out of distillation)");
  }
  line += cat(": ", joined(said, ", "), ".");
  if (!silent.empty()) line += cat(" Nothing is claimed about ", joined(silent), ".");
  if (!judgement.met && input.confirm) line += " Not confirmed.";
  return line;
}

// Every finding that withholds leaves a criterion open, with its reason.
void withhold(CriterionResult& result, const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    if (!finding.withholds) continue;
    result.verdict = Verdict::kInconclusive;
    result.notes.insert(result.notes.begin(),
                        "verdict withheld: " + finding.name + ": " + finding.text);
  }
}

// What an open verdict would have taken.
std::string items_needed(const CriterionResult& result, const Power& power) {
  const double truth = power.gate + power.margin;
  if (!power.needed_n)
    return cat("no number of items up to 20000 would decide for a truth of ", truth);
  return cat("for a truth of ", truth, ", ", *power.needed_n,
             " items would show it with a chance of ", power.power, "; these ", result.n,
             " do with ", std::round(100 * power.at_margin) / 100);
}

void add_power(const JudgeInput& input, CriterionResult& result, Judgement& judgement) {
  const bool share = result.name != "stalling" && result.name != "fused_gain";
  if (!share || result.verdict == Verdict::kNotApplicable) return;
  const auto power = power_of(result, input.options);
  if (!power) return;
  if (result.verdict == Verdict::kInconclusive && result.low < result.threshold &&
      result.high >= result.threshold)
    result.notes.push_back(items_needed(result, *power));
  judgement.power.push_back({result.name, *power});
}

Judgement not_judged(const JudgeInput& input, std::vector<Finding>& findings) {
  if (input.options.gated != "none")
    findings.push_back({"gate_missing",
                        cat(input.options.gated,
                            " is to be judged and was not evaluated (eval.gated: none asks for a "
                            "table without a verdict)"),
                        true});
  return {.line = cat("No verdict: ", input.options.gated, " was not evaluated.")};
}

}  // namespace

const std::vector<std::string>& compulsory_controls(bool fuses) {
  static const std::vector<std::string> translated{"noise", "shuffled", "averaged", "wrong_text"},
      fused{kFusedControl};
  return fuses ? fused : translated;
}

void check_gate(const EvalOptions& options,
                const std::map<std::string, NamedProjector>& projectors) {
  const bool there = contains(options.conditions, options.gated) || options.gated == "baseline" ||
                     options.gated == "full_text";
  if (options.gated == "none" || !there || projectors.contains(options.gated)) return;
  std::string known;
  for (const auto& [name, projector] : projectors) known += (known.empty() ? "" : ", ") + name;
  throw Error({.code = ExitCode::kUsage,
               .where = "eval.gated",
               .what = "only a projector can be judged",
               .got = printable(options.gated),
               .expected = known.empty() ? "a projector's condition, or none" : known + ", or none",
               .remedy = "name the condition whose checkpoint is to be judged"});
}

Judgement judge(const JudgeInput& input, std::vector<Finding>& findings) {
  const auto projector = input.projectors.find(input.options.gated);
  if (projector == input.projectors.end() || input.answers.empty(input.options.gated))
    return not_judged(input, findings);
  const bool fuses = projector->second.projector->fuses();
  Judgement judgement{.judged = true, .met = true};
  judgement.criteria = results_of(input, fuses);
  find_controls(input, fuses, judgement.criteria, findings);
  for (CriterionResult& result : judgement.criteria) {
    if (result.within_monte_carlo)
      findings.push_back(
          {"gate_within_monte_carlo", cat(result.name, ": ", result.notes.back()), false});
    if (result.verdict != Verdict::kNotApplicable) {
      withhold(result, findings);
      judgement.met = judgement.met && result.verdict == Verdict::kPass;
    }
    add_power(input, result, judgement);
    const auto untrained = left_out(input, result);
    if (!untrained.empty())
      result.notes.push_back(cat("left out of distillation: ", joined(untrained),
                                 " (its phrasings were never trained on, not only its values)"));
  }
  judgement.judging = Judging{.gated = input.options.gated,
                              .replicas = input.replicas,
                              .fuses = fuses,
                              .controls = compulsory_controls(fuses),
                              .confidence = input.options.criteria.confidence,
                              .resamples = input.options.bootstrap,
                              .seed = input.seed};
  judgement.line = line_of(input, fuses, judgement);
  return judgement;
}

}  // namespace kvlingua
