// Small helpers that both written reports share: numbers, intervals and names as text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/report/report.h"

namespace kvlingua::report {

// Bytes that are no UTF-8 (a cut character in an answer) replaced, as report.json has them.
std::string valid_text(std::string_view text);

std::string percent(double rate);                  // "96.5", "-" when it is not known
std::string number(double value, int digits = 3);  // "0.123", "-" when it is not known
std::string interval(const Rate& rate);            // "96.5 [93.0, 98.3]", in percent
std::string big(double value, const char* const* units, int count, double base);
std::string bytes(double value);  // "1.2 MiB"
std::string flops(double value);  // "3.4 GFLOP"
// "full_text" -> "full text"; "mlp@2" -> "mlp, training seed 2".
std::string title(const std::string& name);
// What a criterion asks, for a reader who has seen none of this before. Empty for an unknown one.
std::string meaning(const std::string& criterion);
// What nobody may conclude from the verdict.
std::string not_claimed(const Report& report);
// The level of every interval as it was asked for: "95 %", "99.5 %".
std::string level(const Report& report);
// A verdict as it may be said: an exploratory gate is met, it passes nothing.
std::string verdict_word(const Report& report, Verdict verdict);
// "0.987 [0.958, 1.009]", "-" when it is not known.
std::string share(double statistic, double low, double high);
std::string share(const std::optional<ShareInterval>& share);
std::string joined(const std::vector<std::string>& words, const char* between = ", ");

}  // namespace kvlingua::report
