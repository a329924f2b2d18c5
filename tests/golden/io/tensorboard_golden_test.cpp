// The event file is byte for byte what the tensorboard package writes for the same events.
#include <gtest/gtest.h>

#include "kvlingua/io/tensorboard_events.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

TEST(TensorboardGolden, ByteForByte) {
  const TempDir dir;
  std::string markdown;
  for (int i = 0; i < 20; ++i) markdown += "a *long* text\n";
  EventWriter writer(dir.path(), 300, 1700000000.25);
  writer.scalar("train/loss", 1.8421, 300, 1700000001.5);
  writer.scalar("zero", 0.0, 0, 1700000002.5);
  writer.text("recipe", markdown, int64_t{1} << 33, 1700000003.5);
  EXPECT_EQ(bytes_of(writer.path()),
            bytes_of(std::filesystem::path(KVLINGUA_TEST_DATA) / "io" / "events.bin"));
}

}  // namespace
}  // namespace kvlingua
