// Intervals of intraclass correlations against McGraw and Wong's formulas (scripts/goldens/icc.py)
// and against what Shrout and Fleiss (1979) published.
#include "eval/statistics/agreement.h"

#include <gtest/gtest.h>

#include "kvlingua/io/json.h"

namespace kvlingua::stats {
namespace {

TEST(Agreement, IccIntervalsAreMcGrawAndWongs) {
  const std::string file = KVLINGUA_TEST_DATA "/statistics/icc.json";
  const nlohmann::json golden = parse_json(read_text_file(file), file);
  ASSERT_EQ(golden["intervals"].size(), 12U);
  for (const auto& row : golden["intervals"]) {
    const Interval ours = icc_two_way(row["table"].get<Ratings>(), row["confidence"]);
    EXPECT_NEAR(ours.estimate, row["estimate"].get<double>(), 1e-9);
    EXPECT_NEAR(ours.low, row["low"].get<double>(), 1e-7);
    EXPECT_NEAR(ours.high, row["high"].get<double>(), 1e-7);
  }
}

TEST(Agreement, ShroutAndFleissTable) {
  const Ratings table = {{9, 2, 5, 8}, {6, 1, 3, 2},  {8, 4, 6, 8},
                         {7, 1, 2, 6}, {10, 5, 6, 9}, {6, 2, 4, 7}};
  const Interval icc = icc_two_way(table, 0.95);
  EXPECT_NEAR(icc.estimate, 0.29, 0.005);
  EXPECT_NEAR(icc.low, 0.02, 0.005);
  EXPECT_NEAR(icc.high, 0.76, 0.005);
}

}  // namespace
}  // namespace kvlingua::stats
