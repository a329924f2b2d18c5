#include "kvlingua/io/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(AtomicFile, AppearsOnlyAtCommit) {
  const TempDir dir;
  {
    AtomicFile file(dir / "f");
    file.write("abc");
    EXPECT_FALSE(fs::exists(dir / "f"));
    EXPECT_EQ(bytes_of(file.temporary_path()), "abc");
    file.commit();
    EXPECT_EQ(bytes_of(dir / "f"), "abc");
  }
  EXPECT_EQ(bytes_of(dir / "f"), "abc");
}

TEST(AtomicFile, WithoutCommitNothingIsLeft) {
  const TempDir dir;
  { AtomicFile(dir / "f").write("abc"); }
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(AtomicFile, LeavesLivingWritersAlone) {
  const TempDir dir;
  AtomicFile first(dir / "f");
  dir.write(".f.tmp-1-0", "of a dead process");
  AtomicFile second(dir / "f");
  EXPECT_FALSE(fs::exists(dir / ".f.tmp-1-0"));
  first.write("first");
  second.write("second");
  first.commit();
  second.commit();
  EXPECT_EQ(bytes_of(dir / "f"), "second");
}

TEST(AtomicFile, FullDiskNamesBytes) {
  const TempDir dir;
  AtomicFile file(dir / "f", 1234);
  file_ops::set_fault("enospc@1");
  try {
    file.write("abc");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiskFull);
    EXPECT_THAT(error.what(), HasSubstr("1234 bytes needed"));
    EXPECT_THAT(error.what(), HasSubstr((dir / "f").string()));
  }
  file_ops::set_fault("");
}

TEST(AtomicFile, AbsentFolderIsInput) {
  const TempDir dir;
  try {
    AtomicFile file(dir / "none" / "f");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_THAT(error.what(), HasSubstr("--out"));
  }
}

TEST(AtomicFile, RealFullDisk) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  try {
    append_line_durable("/dev/full", "x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiskFull);
  }
}

TEST(Directories, AreMadeWithTheirParents) {
  const TempDir dir;
  make_directories(dir / "a" / "b" / "c");
  make_directories(dir / "a" / "b" / "c");
  EXPECT_TRUE(fs::is_directory(dir / "a" / "b" / "c"));
  dir.write("file", "");
  EXPECT_THROW(make_directories(dir / "file" / "x"), Error);
  EXPECT_THROW(make_directories(dir / "file"), Error);
}

TEST(PublishDirectory, NeedsAFolder) {
  const TempDir dir;
  EXPECT_THROW(publish_directory(dir / "none", dir / "final"), Error);
}

}  // namespace
}  // namespace kvlingua
