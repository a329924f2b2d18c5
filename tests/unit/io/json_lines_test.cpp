#include "kvlingua/io/json_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kvlingua/base/error.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

TEST(JsonLines, WriteReopenRead) {
  const TempDir dir;
  JsonLinesWriter(dir / "l").write(nlohmann::json{{"a", 1}});
  JsonLinesWriter(dir / "l").write(
      nlohmann::ordered_json{{"b", std::numeric_limits<double>::quiet_NaN()}, {"a", "x\ny"}});
  EXPECT_EQ(bytes_of(dir / "l"), "{\"a\":1}\n{\"b\":null,\"a\":\"x\\ny\"}\n");
  EXPECT_EQ(read_json_lines(dir / "l").size(), 2u);
}

TEST(JsonLines, TornLastLineIsCutOff) {
  const TempDir dir;
  for (const std::string& torn : {std::string("{\"a\":"), std::string(10000, 'x')}) {
    dir.write("l", "{\"a\":1}\n" + torn);
    EXPECT_FALSE(read_json_lines(dir / "l", [](const nlohmann::json&, size_t) {}));
    JsonLinesWriter writer(dir / "l");
    EXPECT_EQ(writer.size(), 8u);
    writer.write(nlohmann::json(2));
    EXPECT_EQ(bytes_of(dir / "l"), "{\"a\":1}\n2\n");
  }
  dir.write("l", "torn");
  JsonLinesWriter writer(dir / "l");
  EXPECT_EQ(bytes_of(dir / "l"), "");
}

TEST(JsonLines, ResumesFromAKeptPlace) {
  const TempDir dir;
  JsonLinesWriter writer(dir / "l");
  writer.write(nlohmann::json(1));
  const uint64_t place = writer.size();
  writer.write(nlohmann::json(2));
  writer.truncate(place);
  writer.write(nlohmann::json(3));
  writer.sync();
  EXPECT_EQ(bytes_of(dir / "l"), "1\n3\n");
  EXPECT_THROW(writer.truncate(100), Error);
}

TEST(JsonLines, ErrorsNameTheLine) {
  const TempDir dir;
  dir.write("l", "1\n\n{\"a\":}\n");
  try {
    read_json_lines(dir / "l");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt);
    EXPECT_THAT(error.what(), HasSubstr("l:3: malformed JSON"));
  }
  EXPECT_THROW(read_json_lines(dir / "none"), Error);
  EXPECT_THROW(read_json_lines(dir.path()), Error);
}

}  // namespace
}  // namespace kvlingua
