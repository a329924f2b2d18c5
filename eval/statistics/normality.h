// Shapiro-Wilk's test of normality (Royston 1995, AS R94), as scipy.stats.shapiro computes it.
//
// Described beside a comparison, never a gate: with fifteen prompts it finds little and with many
// it finds what does not matter.
#pragma once

#include <vector>

namespace kvlingua::stats {

struct Normality {
  double w = 1;
  double p = 1;
  bool tested = false;  // false below 3 values, above 5,000, or when all values are equal
  bool is_normal() const { return p > 0.05; }
};

Normality shapiro_wilk(std::vector<double> values);

}  // namespace kvlingua::stats
