// Measurements kept in a file: other settings are moved aside and found again, one process writes,
// and what nothing measured is named.
#include "eval/geometry/kept_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/stored_results.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

void keep(const std::filesystem::path& file, const std::string& fingerprint,
          const std::string& id) {
  KeptLines(file, fingerprint, true).keep({{"id", id}, {"x", 1}});
}

TEST(KeptLines, OtherSettingsAreMovedAsideAndComeBack) {
  set_log_level(LogLevel::kError);
  const TempDir dir;
  const auto file = dir / "results" / "features.jsonl";
  keep(file, "one", "a");
  keep(file, "two", "b");
  EXPECT_EQ(moved_aside(file).size(), 1u);
  EXPECT_EQ(KeptLines(file, "two", true).find("a"), nullptr);
  EXPECT_NE(KeptLines(file, "one", true).find("a"), nullptr);
  EXPECT_NE(KeptLines(file, "two", true).find("b"), nullptr);
  // A damaged one that was moved aside is nobody's.
  std::ofstream(dir / "results" / "features.other-0.jsonl") << "{\n";
  EXPECT_NE(KeptLines(file, "one", true).find("a"), nullptr);
}

TEST(KeptLines, AnUnreadableLineIsNamed) {
  const TempDir dir;
  const auto file = dir / "features.jsonl";
  for (const std::string line : {"[1]", "{}", R"({"id":5})"}) {
    std::ofstream(file) << R"({"fingerprint":"one"})"
                        << "\n"
                        << line << "\n";
    try {
      const KeptLines kept(file, "one", true);
      ADD_FAILURE() << line;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      EXPECT_THAT(error.what(), HasSubstr("features.jsonl:2"));
    }
  }
  std::filesystem::remove(file);
  keep(file, "one", "a");
  const KeptLines kept(file, "one", true);
  EXPECT_THROW(kept.read("a", [](const nlohmann::json& line) { line.at("y"); }), Error);
}

TEST(KeptLines, ASecondWriterIsRefused) {
  const TempDir dir;
  const KeptLines first(dir / "features.jsonl", "one", true);
  EXPECT_THROW(KeptLines(dir / "features.jsonl", "one", true), Error);
}

TEST(KeptLines, AFolderInItsPlaceIsRefused) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "features.jsonl");
  EXPECT_THROW(KeptLines(dir / "features.jsonl", "one", true), Error);
  EXPECT_THROW(KeptLines(dir / "features.jsonl", "one", false), Error);
}

}  // namespace
}  // namespace kvlingua
