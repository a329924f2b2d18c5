// Shards and manifests that somebody made up, with hashes that fit: every index is checked when a
// shard is opened, and only plain arrays of the file itself are read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <fstream>
#include <functional>

#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_reader.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"
#include "support/pair_fixtures.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;
using testing::make_pair_set;
using testing::small_info;

using Change = std::function<void(hid_t)>;

// A set of 12 samples in three shards, one of them changed, its hash and size written anew.
std::filesystem::path changed_set(const TempDir& dir, const Change& change, int64_t shard = 1) {
  PairSetInfo info = small_info();
  info.source.vocab_size = info.target.vocab_size = 500;
  const std::filesystem::path folder = dir / "set";
  std::filesystem::create_directories(folder);
  make_pair_set(folder, info, 12, 4);
  const std::filesystem::path file = folder / shard_file_name(shard);
  const hid_t h = H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  change(h);
  H5Fclose(h);
  PairManifest manifest = *load_pair_manifest(folder);
  ShardEntry& entry = manifest.shards.at(shard);
  entry.bytes = static_cast<int64_t>(std::filesystem::file_size(file));
  entry.sha256 = sha256_file(file);
  save_pair_manifest(folder, std::string(kManifestFile), manifest);
  return folder;
}

void expect_refused(const Change& change, const std::string& words) {
  const TempDir dir;
  const auto folder = changed_set(dir, change);
  const PairReader reader = PairReader::open(folder);
  try {
    reader.shard(1);
    ADD_FAILURE() << "opened: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(words));
  }
  EXPECT_FALSE(verify_pairs(folder).problems.empty()) << "verify says clean: " << words;
}

// Entry `at` of an array becomes `value`.
template <class T>
Change put(const char* name, hsize_t at, T value) {
  return [=](hid_t file) {
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    const hsize_t one = 1;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, nullptr, &one, nullptr);
    const hid_t memory = H5Screate_simple(1, &one, nullptr);
    const hid_t type = sizeof(T) == 8 ? H5T_NATIVE_INT64 : H5T_NATIVE_INT32;
    EXPECT_GE(H5Dwrite(set, type, memory, space, H5P_DEFAULT, &value), 0);
    H5Sclose(memory), H5Sclose(space), H5Dclose(set);
  };
}

TEST(HostileShard, EveryIndexIsChecked) {
  for (const char* side : {"source", "target"}) {
    const std::string s = side;
    const auto name = [&](const char* array) { return s + "/" + array; };
    const std::string token = name("row_token"), position = name("row_position"), ids = name("ids"),
                      offsets = name("token_offsets");
    for (const int32_t bad : {INT32_MAX, -1})
      expect_refused(put<int32_t>(token.c_str(), 0, bad), token);
    for (const int32_t bad : {INT32_MAX, -1})
      expect_refused(put<int32_t>(position.c_str(), 1, bad), position);
    for (const int32_t bad : {-1, 500, INT32_MAX})
      expect_refused(put<int32_t>(ids.c_str(), 2, bad), ids);
    for (const int64_t bad : {int64_t{-1}, int64_t{1} << 40})
      expect_refused(put<int64_t>(offsets.c_str(), 1, bad), offsets);
  }
  for (const int32_t bad : {-1, 1 << 20}) {
    expect_refused(put<int32_t>("target/alignment", 0, bad), "target/alignment");
    expect_refused(put<int32_t>("target/source_row", 0, bad), "target/source_row");
  }
  expect_refused(put<int32_t>("target/source_row", 0, 1), "does not follow the alignment");
  expect_refused(put<int64_t>("samples/id", 0, 9), "samples/id");
  expect_refused(put<int64_t>("samples/id", 2, -5), "samples/id");
  expect_refused(put<int64_t>("samples/document", 1, -1), "samples/id");
}

TEST(HostileShard, IsOfItsOwnPlace) {
  const auto renumber = [](hid_t file) {
    const hid_t attribute = H5Aopen(file, "shard", H5P_DEFAULT);
    const int64_t other = 2;
    H5Awrite(attribute, H5T_NATIVE_INT64, &other);
    H5Aclose(attribute);
  };
  expect_refused(renumber, "does not hold what the manifest says");
  // The samples of the shard before, numbered as such.
  const auto shifted = [](hid_t file) {
    for (hsize_t i = 0; i < 4; ++i) put<int64_t>("samples/id", i, static_cast<int64_t>(i))(file);
  };
  expect_refused(shifted, "does not hold what the manifest says");
}

// An array replaced by one of another storage, of the same type and shape.
Change replace(const char* name, const std::function<void(hid_t creation)>& storage,
               std::vector<hsize_t> dims = {}) {
  return [=](hid_t file) {
    const hid_t old = H5Dopen2(file, name, H5P_DEFAULT), type = H5Dget_type(old);
    hid_t space = H5Dget_space(old);
    if (!dims.empty()) {
      H5Sclose(space);
      space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
    }
    H5Dclose(old);
    H5Ldelete(file, name, H5P_DEFAULT);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    storage(creation);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    EXPECT_GE(set, 0);
    H5Dclose(set), H5Pclose(creation), H5Sclose(space), H5Tclose(type);
  };
}

TEST(HostileShard, OnlyPlainArraysOfTheFileItselfAreRead) {
  const TempDir outside;
  const std::string raw = outside.write("raw", std::string(1 << 16, '\1')).string();
  const auto external = [&](hid_t creation) { H5Pset_external(creation, raw.c_str(), 0, 1 << 16); };
  const auto chunked = [](hid_t creation) {
    const hsize_t chunk[4] = {1, 1, 1, 1};
    H5Pset_chunk(creation, 4, chunk);
  };
  const auto compact = [](hid_t creation) { H5Pset_layout(creation, H5D_COMPACT); };
  const auto plain = [](hid_t) {};
  expect_refused(replace("source/keys", external), "not stored in one piece");
  expect_refused(replace("source/keys", chunked), "not stored in one piece");
  expect_refused(replace("source/row_token", compact), "not stored in one piece");
  expect_refused(replace("target/values", plain), "reaches past the end");  // never written
  expect_refused(
      [](hid_t file) {
        H5Lmove(file, "source/keys", file, "source/elsewhere", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft("/source/elsewhere", file, "source/keys", H5P_DEFAULT, H5P_DEFAULT);
      },
      "missing");
  expect_refused(
      [](hid_t file) {
        H5Ldelete(file, "target", H5P_DEFAULT);
        H5Lcreate_external("shard-000000.h5", "/target", file, "target", H5P_DEFAULT, H5P_DEFAULT);
      },
      "missing");
  expect_refused(
      [](hid_t file) {  // a virtual array over another file
        const hid_t old = H5Dopen2(file, "source/keys", H5P_DEFAULT), type = H5Dget_type(old),
                    space = H5Dget_space(old), creation = H5Pcreate(H5P_DATASET_CREATE);
        H5Dclose(old);
        H5Ldelete(file, "source/keys", H5P_DEFAULT);
        H5Pset_virtual(creation, space, "shard-000000.h5", "source/keys", space);
        H5Dclose(H5Dcreate2(file, "source/keys", type, space, H5P_DEFAULT, creation, H5P_DEFAULT));
        H5Pclose(creation), H5Sclose(space), H5Tclose(type);
      },
      "not stored in one piece");
}

TEST(HostileShard, SizesAreThoseOfTheFile) {
  const auto huge = [](hid_t creation) {
    const hsize_t chunk = 1024;
    H5Pset_chunk(creation, 1, &chunk);
  };
  for (const int bits : {31, 40, 62})
    expect_refused(replace("samples/id", huge, {hsize_t{1} << bits}), "samples/id");
  expect_refused(replace("samples/text", [](hid_t) {}, {hsize_t{1} << 30}), "samples/text");
  // Attributes that hold more than one value would be written past where one is read to.
  expect_refused(
      [](hid_t file) {
        H5Adelete(file, "version");
        const hsize_t many = 1000;
        const hid_t space = H5Screate_simple(1, &many, nullptr);
        H5Aclose(H5Acreate2(file, "version", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(space);
      },
      "version");
  expect_refused(
      [](hid_t file) {
        H5Adelete(file, "format");
        const hsize_t many = 60;
        const hid_t space = H5Screate_simple(1, &many, nullptr), type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, 800);
        H5Aclose(H5Acreate2(file, "format", type, space, H5P_DEFAULT, H5P_DEFAULT));
        H5Tclose(type), H5Sclose(space);
      },
      "format");
}

// Numbers whose squares fit no float32: named where the rows are read, and by verify.
TEST(HostileShard, HugeNumbersAreNamed) {
  const auto huge = [](const char* name, float value) -> Change {
    return [=](hid_t file) {
      const hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
      std::vector<float> all(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
      H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
      all[0] = value;
      H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
      H5Sclose(space), H5Dclose(set);
    };
  };
  for (const char* side : {"source", "target"}) {
    for (const char* what : {"keys", "values"}) {
      const TempDir dir;
      const auto folder = changed_set(dir, huge(cat(side, "/", what).c_str(), -3e38F));
      const std::string words =
          cat("a number too large to train on (-3e+38) in the ", side, "'s ", what, ", row 0");
      const VerifyResult result = verify_pairs(folder);
      ASSERT_EQ(result.problems.size(), 1U);
      EXPECT_EQ(result.problems[0].what, words);
      EXPECT_EQ(result.problems[0].sample, 4);
      try {
        PairReader::open(folder).shard(1).rows(
            side == std::string("source") ? Side::kSource : Side::kTarget, 0, 1);
        ADD_FAILURE() << "read: " << words;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kCorrupt);
        EXPECT_THAT(error.what(), HasSubstr(words));
      }
    }
  }
}

TEST(HostileManifest, ListsWhatMustBeThere) {
  const auto refused = [](const std::function<void(PairManifest&)>& change) {
    const TempDir dir;
    const auto folder = changed_set(dir, [](hid_t) {});
    PairManifest manifest = *load_pair_manifest(folder);
    change(manifest);
    save_pair_manifest(folder, std::string(kManifestFile), manifest);
    try {
      PairReader::open(folder);
    } catch (const Error& error) {
      return error.code() == ExitCode::kCorrupt;
    }
    return false;
  };
  EXPECT_FALSE(refused([](PairManifest&) {}));
  EXPECT_TRUE(refused([](PairManifest& m) { m.planned_samples = 13; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.planned_samples = -1; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.planned_shards = 2; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.planned_shards = 0; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.shards.at(1).index = 5; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.shards.at(1).index = -1; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.shards.at(1).index = 0; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.shards.at(1).samples = -4; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.shards.at(1).source_rows = int64_t{1} << 60; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.info.source.shape.layers = 0; }));
  EXPECT_TRUE(refused([](PairManifest& m) {
    m.info.source.shape = {1 << 20, 1 << 20, 1 << 20};
    m.info.source.rope.head_dim = 1 << 20;
  }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.info.target.prefix_tokens = -3; }));
  EXPECT_TRUE(refused([](PairManifest& m) { m.info.target.rope.theta = 0; }));
}

}  // namespace
}  // namespace kvlingua
