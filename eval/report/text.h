// Small helpers that both written reports share: numbers, intervals and names as text.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua::report {

using Json = nlohmann::ordered_json;

std::string percent(const Json& rate);                  // "96.5", "-" for null
std::string number(const Json& value, int digits = 3);  // "0.123", "-" for null
std::string interval(const Json& rate);  // "96.5 [93.0, 98.3]" of {rate, low, high}, in percent
std::string big(double value, const char* const* units, int count, double base);
std::string bytes(double value);             // "1.2 MiB"
std::string flops(double value);             // "3.4 GFLOP"
std::string title(const std::string& name);  // "full_text" -> "full text"
// The level of every interval as it was asked for: "95 %", "99.5 %".
std::string level(const Json& report);
// A verdict as it may be said: an exploratory gate is met, it passes nothing.
std::string verdict_word(const Json& report, const Json& criterion);
// "0.987 [0.958, 1.009]" of {statistic, low, high}, "-" for null.
std::string share(const Json& share);
// Families of a report in the order met; of all conditions. "cases" is left out.
std::vector<std::string> families(const Json& report);
const Json* cell(const Json& report, const std::string& condition,
                 const std::string& family);  // null: not there

}  // namespace kvlingua::report
