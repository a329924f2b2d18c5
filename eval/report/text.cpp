#include "eval/report/text.h"

#include <algorithm>
#include <cstdio>

namespace kvlingua::report {

namespace {

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace

std::string number(const Json& value, int digits) {
  if (!value.is_number()) return "-";
  const std::string text = fixed(value.get<double>(), digits);
  return text.starts_with('-') && text.find_first_not_of("-0.") == std::string::npos
             ? text.substr(1)  // rounding error below zero is zero
             : text;
}

std::string percent(const Json& rate) {
  return rate.is_number() ? fixed(100 * rate.get<double>(), 1) : "-";
}

std::string interval(const Json& rate) {
  if (!rate.is_object()) return "-";
  return percent(rate["rate"]) + " [" + percent(rate["low"]) + ", " + percent(rate["high"]) + "]";
}

std::string level(const Json& report) {
  double confidence = 0.95;
  if (report.contains("judging") && report["judging"].is_object())
    confidence = report["judging"].value("confidence", confidence);
  char text[64];
  std::snprintf(text, sizeof text, "%.4g %%", 100 * confidence);
  return text;
}

std::string verdict_word(const Json& report, const Json& criterion) {
  const auto verdict = criterion["verdict"].get<std::string>();
  const bool confirmed = report.value("mode", std::string()) == "confirmatory";
  return verdict == "not_applicable" ? "not applicable"
         : verdict != "pass"         ? verdict
         : confirmed                 ? "pass"
                                     : "met";
}

std::string share(const Json& share) {
  if (!share.is_object()) return "-";
  return number(share["statistic"]) + " [" + number(share["low"]) + ", " + number(share["high"]) +
         "]";
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
  return text;
}

std::vector<std::string> families(const Json& report) {
  std::vector<std::string> names;
  for (const auto& [condition, value] : report["conditions"].items())
    for (const auto& [family, unused] : value["families"].items())
      if (family != "cases" && std::find(names.begin(), names.end(), family) == names.end())
        names.push_back(family);
  return names;
}

const Json* cell(const Json& report, const std::string& condition, const std::string& family) {
  const Json& of_condition = report["conditions"][condition]["families"];
  const auto found = of_condition.find(family);
  return found == of_condition.end() ? nullptr : &*found;
}

}  // namespace kvlingua::report
