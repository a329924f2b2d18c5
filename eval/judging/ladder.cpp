#include "eval/judging/ladder.h"

#include <string>
#include <vector>

#include "eval/criteria/criterion.h"
#include "eval/statistics/clustered.h"
#include "eval/statistics/tests.h"

namespace kvlingua {

namespace {

constexpr const char* kRungs[] = {"ridge_aligned", "ridge", "mlp", "distilled"};

// The step from `lower` to `upper` on one family; none when no item has both.
std::optional<LadderStep> step(const Answers& answers, const std::string& lower,
                               const std::string& upper, const std::string& family,
                               const LadderOptions& options) {
  stats::Clustered c;
  std::vector<std::string> groups, contents;
  int64_t gained = 0, lost = 0;
  for (const Answer* answer : distinct_answers(answers.of(upper, family))) {
    const Answer* other = answers.find(lower, answer->item);
    if (other == nullptr) continue;
    c.first.push_back(answer->score.exact);
    c.second.push_back(other->score.exact);
    gained += answer->score.exact && !other->score.exact;
    lost += other->score.exact && !answer->score.exact;
    groups.push_back(group_of(*answer));
    contents.push_back(content_of(*answer));
  }
  if (c.first.empty()) return std::nullopt;
  c.group = stats::labels_of(groups);
  c.content = stats::labels_of(contents);
  const auto interval = stats::clustered_difference(
      c, {.resamples = options.resamples, .confidence = options.confidence, .seed = options.seed});
  return LadderStep{.lower = lower,
                    .upper = upper,
                    .difference = interval.estimate,
                    .low = interval.low,
                    .high = interval.high,
                    .n = interval.n,
                    .groups = interval.groups,
                    .only_upper = gained,
                    .only_lower = lost,
                    .p = stats::sign_flip_p(c, 9999, options.seed),
                    .rises = interval.low > 0};
}

}  // namespace

std::optional<Ladder> ladder(const Answers& answers, const LadderOptions& options) {
  Ladder result;
  for (const char* name : kRungs)
    if (!answers.empty(name)) result.rungs.push_back(name);
  const auto& rungs = result.rungs;
  if (rungs.size() < 2) return std::nullopt;
  for (const std::string& family : answers.families(rungs.back())) {
    if (family == "cases") continue;
    LadderFamily of{.family = family};
    std::vector<double> p;
    for (size_t i = 1; i < rungs.size(); ++i) {
      const auto one = step(answers, rungs[i - 1], rungs[i], family, options);
      if (!one) continue;
      p.push_back(one->p);
      of.steps.push_back(*one);
    }
    const auto adjusted = stats::holm(p);
    for (size_t i = 0; i < adjusted.size(); ++i) of.steps[i].p_holm = adjusted[i];
    result.families.push_back(std::move(of));
  }
  return result;
}

}  // namespace kvlingua
