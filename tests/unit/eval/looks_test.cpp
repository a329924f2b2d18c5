// The ledger of looks: what it keeps, what a damaged line is, and that a verdict leaves a trace.
#include "eval/judging/looks.h"

#include <gtest/gtest.h>

#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

Look look(const std::string& mode, int64_t seed) {
  return {.time = utc_now(),
          .mode = mode,
          .checkpoint = "0123456789abcdef",
          .gated = "ridge",
          .seeds = {seed},
          .items = 16,
          .frozen = "f",
          .gates = {{"needle", 0.5}, {"identity", 0.3}},
          .verdicts = {{"needle", "pass"}, {"identity", "fail"}}};
}

TEST(Looks, AreKeptInOrderAndCountedOnce) {
  const TempDir dir;
  const auto file = dir / "run" / "looks.jsonl";
  Looks looks(file);
  EXPECT_EQ(looks.add(look("explore", 1)), 1);
  EXPECT_EQ(looks.add(look("explore", 1)), 1);  // the same again
  EXPECT_EQ(looks.add(look("confirm", 2)), 2);
  std::ofstream(file, std::ios::app) << std::string(100, '[') << "\n";  // damaged
  const Looks again(file);
  ASSERT_EQ(again.all().size(), 3u);
  EXPECT_EQ(again.at("0123456789abcdef", "confirm").size(), 1u);
  EXPECT_TRUE(again.knows_seed(2));
  EXPECT_FALSE(again.knows_seed(3));
  // Gates in the order of the criteria, not sorted.
  EXPECT_EQ(again.all()[0].gates.begin().key(), "needle");
  EXPECT_TRUE(again.all()[2].checkpoint.empty());
}

// Torn in the middle of a line, the ledger loses that one alone.
TEST(Looks, AfterATornLineTheNextIsALineOfItsOwn) {
  const TempDir dir;
  const auto file = dir / "looks.jsonl";
  Looks(file).add(look("explore", 1));
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 20);
  Looks(file).add(look("confirm", 2));
  const Looks again(file);
  ASSERT_EQ(again.all().size(), 2u);
  EXPECT_TRUE(again.knows_seed(2));
}

// A projector that was confirmed on is known whatever was judged with it, and by whichever ledger.
TEST(Looks, ASharedProjectorIsTheSameLook) {
  const TempDir dir;
  Look taken = look("confirm", 2);
  taken.projectors = {"aaaa", "bbbb"};
  taken.looks = 1;
  Looks(dir / "seeds.jsonl").add(taken);
  Looks looks(dir / "looks.jsonl");
  EXPECT_TRUE(looks.confirmed("another", {"bbbb"}).empty());
  looks.also_read(dir / "seeds.jsonl");
  ASSERT_EQ(looks.confirmed("another", {"bbbb", "cccc"}).size(), 1u);
  EXPECT_EQ(looks.confirmed("another", {"bbbb"}).front().looks, 1);
  EXPECT_TRUE(looks.confirmed("another", {"cccc"}).empty());
  EXPECT_EQ(looks.confirmed(taken.checkpoint, {}).size(), 1u);  // by the hash of all, as before
  looks.add(look("explore", 1));
  EXPECT_EQ(Looks(dir / "looks.jsonl").all().size(), 1u);  // what was read elsewhere stays there
}

// Where no ledger can be: what explores warns and goes on, what confirms has no verdict.
TEST(Looks, AConfirmingLookThatCannotBeStoredIsRefused) {
  set_log_level(LogLevel::kError);
  const TempDir dir;
  std::ofstream(dir / "file") << "x";
  Looks looks(dir / "file" / "looks.jsonl");
  EXPECT_EQ(looks.add(look("explore", 1)), 1);
  EXPECT_THROW(looks.add(look("confirm", 2)), Error);
  EXPECT_EQ(looks.all().size(), 1u);
}

}  // namespace
}  // namespace kvlingua
