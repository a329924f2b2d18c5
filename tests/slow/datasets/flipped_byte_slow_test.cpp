// One flipped byte, anywhere in a shard or a manifest: verify names the file, and the loader
// refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "datasets/generate.h"
#include "datasets/loading/pair_loader.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/random.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// What the loader says when it reads everything; empty: nothing.
std::string loader_says(const fs::path& set, int64_t* batches) {
  try {
    PairLoaderOptions options;
    options.batch_size = 64;
    options.epochs = 1;
    options.use = LoadUse::kAll;
    options.drop_last = false;
    PairLoader loader(PairReader::open(set), options);
    while (loader.next()) ++*batches;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt) << error.what();
    return error.what();
  }
  return {};
}

TEST(FlippedByte, IsNamedByVerifyAndRefusedByTheLoader) {
  set_log_level(LogLevel::kOff);
  const TempDir dir;
  testing::save_tiny_pair(dir.path());
  generate(testing::tiny_recipe(dir.path()), testing::tiny_context(dir.path()));
  const fs::path set = dir / "datasets/tiny";
  ASSERT_TRUE(verify_pairs(set).clean());
  int64_t batches = 0;
  ASSERT_EQ(loader_says(set, &batches), "");
  ASSERT_GT(batches, 10);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(set)) {
    if (entry.is_regular_file() && entry.path().filename().string()[0] != '.')
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  ASSERT_GT(files.size(), 3U);
  Random random(7);
  const int per_file = 600 / static_cast<int>(files.size()) + 1;
  int tried = 0;
  for (const fs::path& file : files) {
    const auto size = static_cast<uint64_t>(fs::file_size(file));
    for (int i = 0; i < per_file; ++i, ++tried) {
      // The first and last bytes too.
      const uint64_t at = i == 0 ? 0 : i == 1 ? size - 1 : random.below(size);
      std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
      const auto place = static_cast<std::streamoff>(at);
      stream.seekg(place);
      const char was = static_cast<char>(stream.get());
      const char now = static_cast<char>(was ^ (1 << random.below(8)));
      const auto put = [&](char c) {
        stream.seekp(place);
        stream.put(c);
        stream.flush();
      };
      put(now);
      const std::string what = file.filename().string() + ", byte " + std::to_string(at);
      const VerifyResult result = verify_pairs(set);
      ASSERT_FALSE(result.clean()) << what;
      EXPECT_THAT(result.problems[0].file, ::testing::HasSubstr(file.filename().string())) << what;
      batches = 0;
      const std::string said = loader_says(set, &batches);
      EXPECT_THAT(said, ::testing::HasSubstr(file.filename().string())) << what;
      EXPECT_EQ(batches, 0) << what;
      put(was);
    }
  }
  EXPECT_GE(tried, 500);
  EXPECT_TRUE(verify_pairs(set).clean());
}

}  // namespace
}  // namespace kvlingua
