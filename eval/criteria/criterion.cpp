#include "eval/criteria/criterion.h"

#include <algorithm>
#include <cmath>

#include "eval/statistics/distributions.h"
#include "eval/statistics/duplicates.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

constexpr double kMonteCarloErrors = 3;

// The items as the statistics want them; `first` is filled by who asks.
stats::Clustered clusters(const std::vector<Triple>& items, bool (*succeeded)(const Answer&)) {
  stats::Clustered c;
  std::vector<std::string> groups, contents;
  for (const Triple& item : items) {
    c.second.push_back(succeeded(*item.full_text));
    c.floor.push_back(item.baseline != nullptr && succeeded(*item.baseline));
    groups.push_back(group_of(*item.full_text));
    contents.push_back(content_of(*item.full_text));
  }
  c.group = stats::labels_of(groups);
  c.content = stats::labels_of(contents);
  return c;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v / static_cast<double>(values.size());
  return sum;
}

// Successes of one condition on the items; false where an item was not answered under it.
bool successes(const CriterionInput& input, const std::string& condition,
               const std::vector<Triple>& items, bool (*succeeded)(const Answer&),
               std::vector<double>& values) {
  values.clear();
  for (const Triple& item : items) {
    const Answer* answer = input.answers.find(condition, item.gated->item);
    if (answer == nullptr) return false;
    values.push_back(succeeded(*answer));
  }
  return true;
}

// Several training seeds: the mean over them is judged, and what they differ by widens it.
void add_seeds(const CriterionInput& input, const std::vector<Triple>& items,
               bool (*succeeded)(const Answer&), stats::Clustered& c, CriterionResult& result) {
  const double floor = mean(c.floor), gap = mean(c.second) - floor;
  std::vector<double> sum = c.first, one;
  result.by_seed = {(mean(c.first) - floor) / gap};
  for (const auto& name : input.replicas) {
    if (!successes(input, name, items, succeeded, one))
      throw Error({.code = ExitCode::kFailed,
                   .where = name,
                   .what = "training seeds were not asked the same items"});
    for (size_t i = 0; i < one.size(); ++i) sum[i] += one[i];
    result.by_seed.push_back((mean(one) - floor) / gap);
  }
  for (double& v : sum) v /= static_cast<double>(result.by_seed.size());
  c.first = std::move(sum);
  result.seeds_half_width = half_width_over_seeds(result.by_seed, input.confidence);
}

void add_controls(const CriterionInput& input, const std::vector<Triple>& items,
                  bool (*succeeded)(const Answer&), stats::Clustered c, CriterionResult& result) {
  for (const auto& name : input.controls) {
    if (!successes(input, name, items, succeeded, c.first)) continue;
    const auto interval = stats::clustered_share(
        c, {.resamples = input.resamples, .confidence = input.confidence, .seed = input.seed});
    if (!std::isfinite(interval.estimate)) continue;  // no gap: the criterion says so
    result.controls.push_back({name, interval.estimate, interval.low, interval.high, interval.n,
                               interval.high < input.threshold});
  }
}

// The items can show a transfer only when reading the text helps: full_text above baseline, whole
// interval.
bool gap_is_there(stats::Clustered c, const CriterionInput& input) {
  c.first = c.second;
  c.second = c.floor;
  return stats::clustered_difference(
             c, {.resamples = input.resamples, .confidence = input.confidence, .seed = input.seed})
             .low > 0;
}

}  // namespace

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass";
    case Verdict::kFail:
      return "fail";
    case Verdict::kInconclusive:
      return "inconclusive";
    case Verdict::kNotApplicable:
      return "not_applicable";
  }
  return "inconclusive";
}

std::string group_of(const Answer& answer) { return answer.family + "/" + answer.group; }
std::string content_of(const Answer& answer) { return group_of(answer) + "/" + answer.scored; }

std::vector<Triple> paired_items(const CriterionInput& input,
                                 const std::vector<std::string>& families) {
  std::vector<Triple> items;
  std::vector<std::string> keys;
  for (const Answer* gated : input.answers.of(input.gated)) {
    const bool wanted = families.empty() ? gated->family != "cases"
                                         : std::find(families.begin(), families.end(),
                                                     gated->family) != families.end();
    const Answer* full = input.answers.find("full_text", gated->item);
    if (!wanted || full == nullptr) continue;
    items.push_back({gated, full, input.answers.find("baseline", gated->item)});
    keys.push_back(full->read + "\n" + gated->read + "\n" + gated->text + "\n" + gated->scored);
  }
  std::vector<Triple> once;
  for (size_t index : stats::distinct(keys).kept) once.push_back(items[index]);
  return once;
}

CriterionResult judge_share(const CriterionInput& input, const ShareQuestion& question) {
  CriterionResult result;
  result.name = question.name;
  result.threshold = input.threshold;
  result.definition = question.definition;
  result.families = question.families;
  auto items = paired_items(input, question.families);
  const size_t all = items.size();
  if (question.counts)
    std::erase_if(items, [&](const Triple& item) { return !question.counts(item); });
  if (items.size() < all)
    result.notes.push_back(cat(all - items.size(), " of ", all,
                               " items left out: the bare target does not give the known fact"));
  if (items.empty()) {
    stats::ClusterInterval nothing;
    nothing.estimate = std::nan("");
    conclude(result, nothing, question.nothing);
    return result;
  }
  stats::Clustered c = clusters(items, question.succeeded);
  successes(input, input.gated, items, question.succeeded, c.first);
  result.floor = mean(c.floor);
  result.ceiling = mean(c.second);
  for (size_t i = 0; i < c.first.size(); ++i)
    result.gained += (c.first[i] > c.second[i]) / static_cast<double>(c.first.size());
  const bool gap = gap_is_there(c, input);
  add_controls(input, items, question.succeeded, c, result);
  if (!input.replicas.empty() && result.ceiling > result.floor)
    add_seeds(input, items, question.succeeded, c, result);
  auto interval = stats::clustered_share(
      c, {.resamples = input.resamples, .confidence = input.confidence, .seed = input.seed});
  interval.low = std::max(0.0, interval.low);
  conclude(result, interval,
           gap ? ""
               : "reading the text itself does not lift the target above baseline here: these "
                 "items cannot show a transfer");
  return result;
}

void leave_open(CriterionResult& result, std::string why) {
  result.verdict = Verdict::kInconclusive;
  result.notes.push_back(std::move(why));
}

void conclude(CriterionResult& result, const stats::ClusterInterval& interval,
              const std::string& cannot_show) {
  const bool known = std::isfinite(interval.estimate);
  result.n = interval.n;
  result.groups = interval.groups;
  result.contents = interval.contents;
  result.design_effect = interval.design_effect;
  result.statistic = known ? interval.estimate : 0;
  const auto add = [&](double end) {
    return std::hypot(interval.estimate - end, result.seeds_half_width);
  };
  const bool finite = known && std::isfinite(interval.low) && std::isfinite(interval.high);
  result.low = finite ? std::max(0.0, interval.estimate - add(interval.low)) : 0;
  result.high = finite ? interval.estimate + add(interval.high) : 1;
  result.low_error = interval.low_error;
  result.high_error = interval.high_error;
  if (!cannot_show.empty()) return leave_open(result, cannot_show);
  if (!finite) return leave_open(result, "too few groups for an interval");
  result.verdict = above({result.statistic, result.low, result.high}, result.threshold);
  const auto near = [&](double end, double error) {
    return error > 0 && std::abs(end - result.threshold) < kMonteCarloErrors * error;
  };
  result.within_monte_carlo =
      near(result.low, result.low_error) || near(result.high, result.high_error);
  if (result.within_monte_carlo) {
    leave_open(result, cat("the gate lies within ", kMonteCarloErrors,
                           " Monte-Carlo errors of the interval's end: another bootstrap seed "
                           "could decide otherwise"));
  } else if (result.verdict == Verdict::kInconclusive) {
    leave_open(result, "the interval contains the gate");
  }
}

stats::ClusterInterval difference_on(
    const CriterionInput& input, const std::vector<Triple>& items,
    const std::function<std::optional<std::pair<double, double>>(const Triple&)>& values) {
  stats::Clustered c;
  std::vector<std::string> groups, contents;
  for (const Triple& item : items) {
    const auto both = values(item);
    if (!both) continue;
    c.first.push_back(both->first);
    c.second.push_back(both->second);
    groups.push_back(group_of(*item.gated));
    contents.push_back(content_of(*item.gated));
  }
  c.group = stats::labels_of(groups);
  c.content = stats::labels_of(contents);
  return stats::clustered_difference(
      c, {.resamples = input.resamples, .confidence = input.confidence, .seed = input.seed});
}

void state(CriterionResult& result, const stats::ClusterInterval& interval) {
  result.n = interval.n;
  result.groups = interval.groups;
  result.contents = interval.contents;
  result.design_effect = interval.design_effect;
  result.statistic = interval.estimate;
  result.low = interval.low;
  result.high = interval.high;
}

Verdict above(const stats::Interval& interval, double threshold) {
  if (std::isnan(interval.low) || std::isnan(interval.high)) return Verdict::kInconclusive;
  if (interval.low >= threshold) return Verdict::kPass;
  return interval.high < threshold ? Verdict::kFail : Verdict::kInconclusive;
}

double half_width_over_seeds(const std::vector<double>& by_seed, double confidence) {
  if (by_seed.size() < 2) return 0;
  const double centre = mean(by_seed), n = static_cast<double>(by_seed.size());
  double square = 0;
  for (double v : by_seed) square += (v - centre) * (v - centre);
  return stats::student_quantile(0.5 + confidence / 2, n - 1) * std::sqrt(square / (n - 1) / n);
}

}  // namespace kvlingua
