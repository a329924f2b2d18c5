#include "kvlingua/io/json_lines.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <limits>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_lock.h"
#include "kvlingua/io/file_ops.h"
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
    EXPECT_THAT(error.what(), HasSubstr("l:3:6: malformed JSON"));
  }
  EXPECT_THROW(read_json_lines(dir / "none"), Error);
  EXPECT_THROW(read_json_lines(dir.path()), Error);
}

TEST(JsonLines, WhatIsNoFileIsNotWaitedFor) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  std::filesystem::create_directory(dir / "folder");
  for (const char* name : {"pipe", "folder"}) {
    for (const auto& write : std::vector<std::function<void()>>{
             [&] { JsonLinesWriter writer(dir / name); },
             [&] { append_line_durable(dir / name, "line"); }, [&] { FileLock lock(dir / name); },
             [&] { read_json_lines(dir / name); }}) {
      try {
        write();
        ADD_FAILURE() << name;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kInput) << error.what();
      }
    }
    EXPECT_FALSE(FileLock::taken(dir / name));
  }
}

TEST(FileOps, AFileSystemWithoutSyncIsNoFault) {
  const int device = ::open("/dev/null", O_WRONLY | O_CLOEXEC);  // fsync: EINVAL
  ASSERT_GE(device, 0);
  EXPECT_EQ(file_ops::sync(device), 0);
  ::close(device);
  EXPECT_NE(file_ops::sync(-1), 0);
}

}  // namespace
}  // namespace kvlingua
