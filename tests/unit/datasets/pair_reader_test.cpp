// A pair set as a whole: what was published is what is read, and damage is named before HDF5 sees
// it.
#include "datasets/pairs/pair_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "kvlingua/base/error.h"
#include "support/pair_fixtures.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;
using testing::make_pair_set;
using testing::make_sample;
using testing::small_info;

template <class F>
Error caught(F&& work) {
  try {
    work();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorParts{});
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void flip(const std::filesystem::path& path, size_t at, int bit) {
  std::fstream f(path, std::ios::binary | std::ios::in | std::ios::out);
  f.seekg(static_cast<std::streamoff>(at));
  const char c = static_cast<char>(f.get() ^ (1 << bit));
  f.seekp(static_cast<std::streamoff>(at));
  f.put(c);
}

TEST(PairReader, GivesEverySampleOfEveryShard) {
  const TempDir dir;
  const PairSetInfo info = small_info();
  make_pair_set(dir.path(), info, 23, 9);
  const PairReader reader = PairReader::open(dir.path());
  ASSERT_EQ(reader.samples(), 23);
  EXPECT_EQ(reader.shards(), 3);
  for (int64_t i : {0, 8, 9, 17, 18, 22}) {
    const auto want = make_sample(i, info);
    const PairSample got = reader.sample(i);
    EXPECT_EQ(got.record.id, i);
    EXPECT_EQ(got.record.text, want.record.text);
    EXPECT_TRUE(at::equal(got.source.keys().squeeze(1), want.source_keys.permute({1, 2, 0, 3})));
    EXPECT_TRUE(
        at::equal(got.target.values().squeeze(1), want.target_values.permute({1, 2, 0, 3})));
    EXPECT_FALSE(got.source.rope().has_value());
    EXPECT_EQ(got.target.positions()[0][0].item<int64_t>(), 3);
    EXPECT_EQ(reader.record(i).target.ids, want.record.target.ids);
  }
  EXPECT_EQ(reader.info().to_json(), info.to_json());
}

TEST(PairReader, NoSetAndAnUnfinishedSet) {
  const TempDir dir;
  EXPECT_THAT(caught([&] { PairReader::open(dir / "none"); }).what(),
              HasSubstr("kvlingua generate"));
  make_pair_set(dir.path(), small_info(), 8, 4);
  auto manifest = *load_pair_manifest(dir.path());
  manifest.planned_shards = 3;
  save_pair_manifest(dir.path(), std::string(kManifestFile), manifest);
  const Error e = caught([&] { PairReader::open(dir.path()); });
  EXPECT_EQ(e.code(), ExitCode::kInput);
  EXPECT_THAT(e.what(), HasSubstr("not finished"));
  EXPECT_EQ(PairReader::open(dir.path(), {.allow_incomplete = true}).samples(), 8);
}

TEST(PairReader, RanksManifestsAreOneSet) {
  const TempDir dir;
  make_pair_set(dir.path(), small_info(), 12, 3);
  const auto all = *load_pair_manifest(dir.path());
  PairManifest even = all, odd = all;
  std::erase_if(even.shards, [](const auto& s) { return s.first % 2 == 1; });
  std::erase_if(odd.shards, [](const auto& s) { return s.first % 2 == 0; });
  std::filesystem::remove(dir / "manifest.json");
  save_pair_manifest(dir.path(), rank_manifest_name(0), even);
  save_pair_manifest(dir.path(), rank_manifest_name(1), odd);
  EXPECT_EQ(PairReader::open(dir.path()).samples(), 12);
  odd.info.alignment = "first";
  save_pair_manifest(dir.path(), rank_manifest_name(1), odd);
  EXPECT_THAT(caught([&] { PairReader::open(dir.path()); }).what(), HasSubstr("alignment differs"));
}

// One flipped bit, at 300 places of shards and 300 of the manifest: always refused, always naming
// the file.
TEST(PairReader, EveryFlippedByteIsNamed) {
  const TempDir dir;
  make_pair_set(dir.path(), small_info(), 12, 6);
  const auto read_all = [&] {
    const PairReader reader = PairReader::open(dir.path());
    for (int64_t i = 0; i < reader.samples(); ++i) reader.sample(i);
  };
  read_all();
  Random random(11);
  for (const std::string name : {"shard-000000.h5", "shard-000001.h5", "manifest.json"}) {
    const size_t size = bytes_of(dir / name).size();
    const bool manifest = name == "manifest.json";
    const size_t count = manifest ? size : 200;
    for (size_t k = 0; k < count; ++k) {
      const size_t at = manifest ? k : random.below(size);
      const int bit = static_cast<int>(random.below(8));
      flip(dir / name, at, bit);
      const Error e = caught(read_all);
      EXPECT_THAT(e.what(), HasSubstr(name)) << at << " bit " << bit;
      EXPECT_EQ(e.code(), ExitCode::kCorrupt) << e.what() << " at " << at << " bit " << bit;
      flip(dir / name, at, bit);
    }
  }
  read_all();
}

TEST(PairReader, AMissingOrCutShardIsNamed) {
  const TempDir dir;
  make_pair_set(dir.path(), small_info(), 8, 4);
  std::filesystem::resize_file(dir / "shard-000001.h5", 100);
  EXPECT_THAT(caught([&] { PairReader::open(dir.path()).sample(7); }).what(),
              HasSubstr("shard-000001.h5"));
  std::filesystem::remove(dir / "shard-000001.h5");
  const Error e = caught([&] { PairReader::open(dir.path()).sample(7); });
  EXPECT_EQ(e.code(), ExitCode::kCorrupt);
  EXPECT_THAT(e.what(), HasSubstr("missing"));
}

TEST(PairSchema, DifferencesAreNamedByPath) {
  const PairSetInfo a = small_info();
  PairSetInfo b = a;
  EXPECT_FALSE(first_difference(a.identity(), b.identity()));
  b.plan["seed"] = 2;
  const auto d = first_difference(a.identity(), b.identity());
  ASSERT_TRUE(d);
  EXPECT_EQ(d->field, "plan.seed");
  EXPECT_EQ(d->first, "1");
  EXPECT_EQ(d->second, "2");
  b = a;
  b.recipe_yaml = "another";  // may change between a run and its continuation
  EXPECT_FALSE(first_difference(a.identity(), b.identity()));
  EXPECT_EQ(PairSetInfo::from_json(a.to_json(), "x").to_json(), a.to_json());
}

}  // namespace
}  // namespace kvlingua
