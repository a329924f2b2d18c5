// The verdict's interval on simulated evaluations, a few cells; all of them by 2,000 sets each are
// in tests/slow/eval/verdict_coverage_test.cpp.
#include <gtest/gtest.h>

#include "support/verdict_cells.h"

namespace kvlingua::testing {
namespace {

constexpr int kSets = 300;

TEST(VerdictCoverage, HoldsWhereItIsHardest) {
  for (const Cell& cell : {Cell{"pairs", 0.975, 200, 0.95}, Cell{"pairs", 0.60, 50, 0.95},
                           Cell{"facts", 0.985, 400, 0.95}, Cell{"independent", 1, 400, 0.95}}) {
    const Operating seen = operate(cell, kSets, 300);
    EXPECT_GE(seen.coverage, 0.945 - 2 * std::sqrt(0.95 * 0.05 / kSets)) << cell.kind;
    EXPECT_LE(seen.pass, 0.03 + 2 * std::sqrt(0.03 / kSets)) << cell.kind << ": passes at the gate";
  }
}

TEST(VerdictCoverage, ATransferThatLosesNothingPasses) {
  EXPECT_GE(operate({"pairs", 1, 200, 1.0}, 50, 300).pass, 0.98);
  EXPECT_GE(operate({"pairs", 1, 400, 0.99}, 100, 300).pass, 0.85);
  EXPECT_LE(operate({"pairs", 1, 400, 0.85}, 100, 300).pass, 0.0);
}

}  // namespace
}  // namespace kvlingua::testing
