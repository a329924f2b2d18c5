#include "eval/criteria/criterion.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/statistics/duplicates.h"
#include "eval/statistics/equivalence.h"
#include "eval/statistics/resampling.h"

namespace kvlingua {

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass";
    case Verdict::kFail:
      return "fail";
    case Verdict::kInconclusive:
      return "inconclusive";
  }
  return "inconclusive";
}

std::vector<Triple> paired_items(const CriterionInput& input,
                                 const std::vector<std::string>& families) {
  std::vector<Triple> items;
  std::vector<std::string> keys;
  for (const Answer* gated : input.answers.of(input.gated)) {
    if (!families.empty() &&
        std::find(families.begin(), families.end(), gated->family) == families.end())
      continue;
    const Answer* full = input.answers.find("full_text", gated->item);
    if (full == nullptr) continue;
    items.push_back({gated, full, input.answers.find("baseline", gated->item)});
    keys.push_back(full->read + "\n" + gated->read + "\n" + gated->text + "\n" + gated->scored);
  }
  std::vector<Triple> once;
  for (size_t index : stats::distinct(keys).kept) once.push_back(items[index]);
  return once;
}

stats::Interval retained_share(const std::vector<Triple>& items, bool (*succeeded)(const Answer&),
                               const CriterionInput& input) {
  std::vector<double> first, second;
  std::vector<bool> one, other;
  std::vector<int64_t> groups;
  std::map<std::string, int64_t> labels;
  for (const Triple& item : items) {
    one.push_back(succeeded(*item.gated));
    other.push_back(succeeded(*item.full_text));
    first.push_back(one.back());
    second.push_back(other.back());
    groups.push_back(labels
                         .try_emplace(item.gated->family + "/" + item.gated->group,
                                      static_cast<int64_t>(labels.size()))
                         .first->second);
  }
  stats::Interval interval = stats::bootstrap_ratio(first, second,
                                                    {.resamples = input.resamples,
                                                     .confidence = input.confidence,
                                                     .seed = input.seed,
                                                     .groups = groups});
  const stats::PairedCounts counts = stats::PairedCounts::of(one, other);
  const double ceiling =
      static_cast<double>(counts.both + counts.only_second) / static_cast<double>(counts.n());
  if (ceiling > 0 && counts.only_first + counts.only_second < 10) {
    const stats::Interval difference = stats::paired_difference(counts, input.confidence);
    interval.low = std::min(interval.low, 1 + difference.low / ceiling);
    interval.high = std::max(interval.high, 1 + difference.high / ceiling);
  }
  interval.low = std::max(0.0, interval.low);
  return interval;
}

void leave_open(CriterionResult& result, std::string why) {
  result.verdict = Verdict::kInconclusive;
  result.notes.push_back(std::move(why));
}

void conclude(CriterionResult& result, const stats::Interval& interval,
              const std::string& cannot_show) {
  const bool known = !std::isnan(interval.estimate);
  result.statistic = known ? interval.estimate : 0;
  result.low = known ? interval.low : 0;
  result.high = known ? interval.high : 1;
  if (!cannot_show.empty()) return leave_open(result, cannot_show);
  result.verdict = above(interval, result.threshold);
  if (result.verdict == Verdict::kInconclusive)
    leave_open(result, "the interval contains the threshold: more items would decide");
}

Verdict above(const stats::Interval& interval, double threshold) {
  if (std::isnan(interval.low) || std::isnan(interval.high)) return Verdict::kInconclusive;
  if (interval.low >= threshold) return Verdict::kPass;
  return interval.high < threshold ? Verdict::kFail : Verdict::kInconclusive;
}

}  // namespace kvlingua
