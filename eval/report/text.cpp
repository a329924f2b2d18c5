#include "eval/report/text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

namespace kvlingua::report {

namespace {

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace

std::string valid_text(std::string_view text) {
  using Json = nlohmann::json;
  const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

std::string number(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  const std::string text = fixed(value, digits);
  return text.starts_with('-') && text.find_first_not_of("-0.") == std::string::npos
             ? text.substr(1)  // rounding error below zero is zero
             : text;
}

std::string percent(double rate) { return std::isfinite(rate) ? fixed(100 * rate, 1) : "-"; }

std::string interval(const Rate& rate) {
  return percent(rate.rate) + " [" + percent(rate.low) + ", " + percent(rate.high) + "]";
}

std::string level(const Report& report) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g %%", 100 * report.confidence());
  return text;
}

std::string verdict_word(const Report& report, Verdict verdict) {
  if (verdict == Verdict::kNotApplicable) return "not applicable";
  return verdict == Verdict::kPass && !report.confirmatory ? "met" : to_string(verdict);
}

std::string share(double statistic, double low, double high) {
  return number(statistic) + " [" + number(low) + ", " + number(high) + "]";
}

std::string share(const std::optional<ShareInterval>& one) {
  return one ? share(one->statistic, one->low, one->high) : "-";
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

std::string big(double value, const char* const* units, int count, double base) {
  int unit = 0;
  while (value >= base && unit + 1 < count) value /= base, ++unit;
  return fixed(value, unit == 0 ? 0 : 1) + " " + units[unit];
}

std::string bytes(double value) {
  static const char* const kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  return big(value, kUnits, 5, 1024);
}

std::string flops(double value) {
  static const char* const kUnits[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"};
  return big(value, kUnits, 6, 1000);
}

std::string title(const std::string& name) {
  std::string text = name;
  std::replace(text.begin(), text.end(), '_', ' ');
  if (const size_t at = text.find('@'); at != std::string::npos)
    text.replace(at, 1, ", training seed ");
  return text;
}

std::string meaning(const std::string& criterion) {
  static const std::map<std::string, std::string> kMeanings{
      {"identity", "Does the target state a name and a place that only the source has read?"},
      {"stalling",
       "Does the target break off, echo the question or go round in circles more often than with "
       "the text?"},
      {"parametric_knowledge",
       "Where the text contradicts what the target knows by heart, does it say what the text "
       "says?"},
      {"needle", "Does the target find one stated fact among others?"},
      {"fused_gain",
       "Does the target, which reads the text too, answer better with the source's cache fused "
       "in?"}};
  const auto found = kMeanings.find(criterion);
  return found == kMeanings.end() ? "" : found->second;
}

std::string not_claimed(const Report& report) {
  std::string text =
      "Not claimed: anything about other models, other kinds of questions, or longer texts than "
      "these";
  if (!report.confirmatory) text += "; that the same would come out on fresh items";
  if (!report.confirmatory && report.judging && report.judging->replicas.empty())
    text += " or with another training seed";
  return text + "; that nothing else was lost on the way.";
}

}  // namespace kvlingua::report
