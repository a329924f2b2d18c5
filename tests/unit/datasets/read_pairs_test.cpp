// scripts/read_pairs.py reads the numbers that were written, for every storage type.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "datasets/pairs/pair_reader.h"
#include "kvlingua/base/error.h"
#include "support/pair_fixtures.h"

namespace kvlingua {
namespace {

// What PairReader gives, laid out for the Python side: ids, then all caches as float32.
void dump(const std::filesystem::path& set, const std::filesystem::path& file) {
  const PairReader reader = PairReader::open(set);
  std::ofstream out(file, std::ios::binary);
  const auto put = [&](const at::Tensor& t) {
    const at::Tensor x = t.squeeze(1).contiguous();
    out.write(static_cast<const char*>(x.const_data_ptr()),
              static_cast<std::streamsize>(x.nbytes()));
  };
  for (int64_t i = 0; i < reader.samples(); ++i) {
    const PairSample s = reader.sample(i);
    for (const KvCache* c : {&s.source, &s.target}) put(c->keys()), put(c->values());
  }
}

class ReadPairs : public ::testing::TestWithParam<StorageType> {};

TEST_P(ReadPairs, H5pyReadsTheSameNumbers) {
  const TempDir dir;
  testing::make_pair_set(dir.path(), testing::small_info(GetParam()), 9, 4);
  dump(dir.path(), dir / "expected.f32");
  const std::string command =
      cat("/usr/bin/python3 ", KVLINGUA_SOURCE_DIR, "/tests/support/check_read_pairs.py ",
          KVLINGUA_SOURCE_DIR, " ", dir.path().string(), " ", (dir / "expected.f32").string());
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  // And refuses a shard that has changed.
  std::fstream(dir / "shard-000001.h5", std::ios::in | std::ios::out | std::ios::binary)
      .seekp(3000)
      .put('x');
  EXPECT_NE(std::system((command + " 2> /dev/null").c_str()), 0);
}
INSTANTIATE_TEST_SUITE_P(Storage, ReadPairs,
                         ::testing::Values(StorageType::kFloat32, StorageType::kBFloat16,
                                           StorageType::kFloat16, StorageType::kInt8),
                         [](const auto& info) { return to_string(info.param); });

}  // namespace
}  // namespace kvlingua
