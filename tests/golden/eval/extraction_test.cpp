// The c2c mode reads the same option out of a text as Cache-to-Cache's evaluator
// (scripts/goldens/benchmarks.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/benchmarks/benchmark.h"

namespace kvlingua {
namespace {

TEST(ExtractionGolden, EveryTextAsThePeer) {
  const auto golden =
      nlohmann::json::parse(std::ifstream(KVLINGUA_TEST_DATA "/benchmarks/extraction.json"));
  ASSERT_GT(golden["cases"].size(), 400u);
  for (const auto& one : golden["cases"]) {
    const int expected = one["letter"].is_null() ? -1 : one["letter"].get<std::string>()[0] - 'A';
    EXPECT_EQ(extract_choice(one["text"].get<std::string>(), 4, true), expected) << one.dump();
  }
}

}  // namespace
}  // namespace kvlingua
