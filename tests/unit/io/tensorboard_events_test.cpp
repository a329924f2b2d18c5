#include "kvlingua/io/tensorboard_events.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

// RFC 3720, appendix B.4.
TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

TEST(EventWriter, EveryRecordIsFramed) {
  const TempDir dir;
  EventWriter writer(dir / "tb" / "run");
  for (int step = 0; step < 3; ++step) writer.scalar("loss", 0.5 * step, step);
  writer.text("note", "x", 3);
  const std::string file = bytes_of(writer.path());
  size_t records = 0, at = 0;
  while (at < file.size()) {
    uint64_t length = 0;
    uint32_t length_crc = 0, data_crc = 0;
    ASSERT_LE(at + 12, file.size());
    std::memcpy(&length, &file[at], 8);
    std::memcpy(&length_crc, &file[at + 8], 4);
    ASSERT_EQ(length_crc, masked_crc32c(file.substr(at, 8)));
    ASSERT_LE(at + 16 + length, file.size());
    std::memcpy(&data_crc, &file[at + 12 + length], 4);
    ASSERT_EQ(data_crc, masked_crc32c(file.substr(at + 12, length)));
    at += 16 + length;
    ++records;
  }
  EXPECT_EQ(records, 5u);
}

TEST(EventWriter, LaterFilesSortAfterEarlierOnes) {
  const TempDir dir;
  dir.write("events.out.tfevents.1900000000.elsewhere", "");
  const EventWriter first(dir.path(), std::nullopt, 1700000000.0),
      second(dir.path(), 5, 1700000000.0);
  EXPECT_EQ(first.path().filename(), "events.out.tfevents.1900000001.kvlingua");
  EXPECT_GT(second.path(), first.path());
}

TEST(EventWriter, FullDisk) {
  const TempDir dir;
  EventWriter writer(dir.path());
  file_ops::set_fault("enospc@1");
  EXPECT_THROW(writer.scalar("loss", 1, 1), Error);
  file_ops::set_fault("");
}

}  // namespace
}  // namespace kvlingua
