// What a verdict's interval promises, 2,000 simulated evaluations a cell: it covers the truth at
// least 94.5 % of the time, and a truth at the gate passes at most 3 %. Prints the table of
// operating characteristics (eval/README.md). KVLINGUA_SETS, KVLINGUA_RESAMPLES: fewer,
// for a quick look.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "support/verdict_cells.h"

namespace kvlingua::testing {
namespace {

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

TEST(VerdictCoverage, EveryCell) {
  const int sets = number("KVLINGUA_SETS", 2000), resamples = number("KVLINGUA_RESAMPLES", 1000);
  const double error = std::sqrt(0.95 * 0.05 / sets);
  for (const auto& [kind, ceiling] : {std::pair{"independent", 1.0},
                                      {"pairs", 1.0},
                                      {"pairs", 0.975},
                                      {"pairs", 0.60},
                                      {"facts", 0.985}})
    for (int n : {50, 200, 400})
      for (double truth : {0.93, 0.95, 0.97, 1.0}) {
        const Operating seen = operate({kind, ceiling, n, truth}, sets, resamples);
        std::cout << "| " << kind << ", ceiling " << ceiling << " | " << n << " | " << truth
                  << " | " << seen.coverage << " | " << seen.pass << " / " << seen.fail << " |"
                  << std::endl;
        EXPECT_GE(seen.coverage, 0.945 - error)
            << kind << " " << ceiling << " " << n << " " << truth;
        if (truth == kGate) {
          EXPECT_LE(seen.pass, 0.03 + error) << kind << " " << ceiling << " " << n;
        }
      }
}

}  // namespace
}  // namespace kvlingua::testing
