// A shard read back equals what was written, for every storage type; damage and misfits are named.
#include "datasets/pairs/pair_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "support/pair_fixtures.h"

namespace kvlingua {
namespace {

using testing::encode_batch;
using ::testing::HasSubstr;
using testing::make_sample;
using testing::RawSample;
using testing::small_info;

// Samples 0 .. n - 1 in batches of three.
ShardEntry write_shard(const std::filesystem::path& path, const PairSetInfo& info, int64_t n,
                       int64_t keep = 0) {
  ShardSizes sizes;
  for (int64_t i = 0; i < n; ++i) {
    const RawSample s = make_sample(i, info, 1, keep);
    sizes.source_rows += s.source_keys.size(0);
    sizes.target_rows += s.target_keys.size(0);
  }
  ShardWriter writer(path, 4, info, sizes);
  for (int64_t i = 0; i < n; i += 3) {
    std::vector<RawSample> batch;
    for (int64_t j = i; j < std::min(n, i + 3); ++j) batch.push_back(make_sample(j, info, 1, keep));
    writer.append(encode_batch(batch, info));
  }
  return writer.finish();
}

class EveryStorage : public ::testing::TestWithParam<StorageType> {};

TEST_P(EveryStorage, ReadsBackWhatWasWritten) {
  const TempDir dir;
  PairSetInfo info = small_info(GetParam());
  info.queries = info.attention_outputs = true;
  const ShardEntry entry = write_shard(dir / "s.h5", info, 11);
  EXPECT_EQ(entry.samples, 11);
  const ShardFile shard(dir / "s.h5", info);
  ASSERT_EQ(shard.index().samples(), 11);
  for (int64_t i = 0; i < 11; ++i) {
    const RawSample want = make_sample(i, info);
    const SampleRecord got = shard.sample(i);
    EXPECT_EQ(got.id, want.record.id);
    EXPECT_EQ(got.document, want.record.document);
    EXPECT_EQ(got.use, want.record.use);
    EXPECT_EQ(got.text, want.record.text);
    EXPECT_EQ(got.source.ids, want.record.source.ids);
    EXPECT_EQ(got.target.ids, want.record.target.ids);
    EXPECT_EQ(got.source.row_token, want.record.source.row_token);
    EXPECT_EQ(got.target.row_position, want.record.target.row_position);
    EXPECT_EQ(got.alignment, want.record.alignment);
    EXPECT_EQ(got.target_source_row, want.record.target_source_row);
    const auto at = static_cast<size_t>(i);
    const EncodedBatch encoded = encode_batch({want}, info);
    const StoredRows source = shard.rows(Side::kSource, shard.index().source_row_offsets[at],
                                         shard.index().source_row_offsets[at + 1]);
    const int64_t t0 = shard.index().target_row_offsets[at],
                  t1 = shard.index().target_row_offsets[at + 1];
    const StoredRows target = shard.rows(Side::kTarget, t0, t1);
    EXPECT_TRUE(at::equal(source.keys, encoded.source.keys));
    EXPECT_TRUE(at::equal(source.values, encoded.source.values));
    EXPECT_TRUE(at::equal(target.keys, encoded.target.keys));
    EXPECT_TRUE(at::equal(target.values, encoded.target.values));
    if (GetParam() == StorageType::kInt8) {
      EXPECT_TRUE(at::equal(source.key_scales, encoded.source.key_scales));
      EXPECT_TRUE(at::equal(target.value_scales, encoded.target.value_scales));
    }
    EXPECT_TRUE(at::equal(shard.target_queries(t0, t1), encoded.target_queries));
    EXPECT_TRUE(
        at::equal(shard.target_attention_outputs(t0, t1), encoded.target_attention_outputs));
  }
}
INSTANTIATE_TEST_SUITE_P(Storage, EveryStorage,
                         ::testing::Values(StorageType::kFloat32, StorageType::kBFloat16,
                                           StorageType::kFloat16, StorageType::kInt8),
                         [](const auto& info) { return to_string(info.param); });

TEST(PairShard, SubsampledRowsPointAtTheirSourceRows) {
  const TempDir dir;
  const PairSetInfo info = small_info();
  write_shard(dir / "s.h5", info, 8, 3);
  const ShardFile shard(dir / "s.h5", info);
  const ShardIndex& x = shard.index();
  const auto all = shard.target_source_rows(0, x.target_row_offsets.back());
  for (int64_t i = 0; i < 8; ++i) {
    const SampleRecord r = shard.sample(i);
    for (size_t k = 0; k < r.target.row_token.size(); ++k) {
      const int64_t source_row =
          all[static_cast<size_t>(x.target_row_offsets[static_cast<size_t>(i)]) + k];
      const auto local =
          static_cast<size_t>(source_row - x.source_row_offsets[static_cast<size_t>(i)]);
      ASSERT_LT(local, r.source.row_token.size());
      EXPECT_EQ(r.source.row_token[local], r.alignment[static_cast<size_t>(r.target.row_token[k])]);
    }
  }
}

TEST(PairShard, EqualContentsGiveEqualBytes) {
  const TempDir dir;
  write_shard(dir / "a.h5", small_info(), 9);
  write_shard(dir / "b.h5", small_info(), 9);
  std::ifstream a(dir / "a.h5", std::ios::binary), b(dir / "b.h5", std::ios::binary);
  const std::string first((std::istreambuf_iterator<char>(a)), {}),
      second((std::istreambuf_iterator<char>(b)), {});
  EXPECT_GT(first.size(), 1000U);
  EXPECT_EQ(first, second);
}

TEST(PairShard, NaNIsRefusedOnWritingNamingTheSample) {
  const TempDir dir;
  const PairSetInfo info = small_info();
  std::vector<RawSample> batch{make_sample(40, info), make_sample(41, info)};
  batch[1].target_values[2][1][0][3] = std::nan("");
  ShardWriter writer(dir / "s.h5", 0, info, {});
  try {
    writer.append(encode_batch(batch, info));
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_THAT(e.what(), HasSubstr("sample 41"));
    EXPECT_THAT(e.what(),
                HasSubstr("target's values are not finite, or too large to train on, at token 2"));
  }
}

TEST(PairShard, AnotherShapeIsNamed) {
  const TempDir dir;
  write_shard(dir / "s.h5", small_info(), 3);
  PairSetInfo other = small_info();
  other.target.shape.layers = 3;
  try {
    const ShardFile shard(dir / "s.h5", other);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kCorrupt);
    EXPECT_THAT(e.what(), HasSubstr("target/keys"));
  }
}

// Whichever write inside HDF5 finds the disk full or failing, once or from then on: the writer says
// so, and the process can go on and write elsewhere.
class PairShardOnABadDisk : public ::testing::TestWithParam<const char*> {};

TEST_P(PairShardOnABadDisk, IsToldAsSuchAndHarmless) {
  const bool full = std::string(GetParam()).starts_with("enospc");
  const TempDir dir;
  const PairSetInfo info = small_info();
  file_ops::set_fault("");
  write_shard(dir / "whole.h5", info, 30);
  const int64_t operations = file_ops::count();
  ASSERT_GT(operations, 5);
  for (int64_t n = 1; n <= operations; ++n) {
    file_ops::set_fault(cat(GetParam(), "@", n));
    std::optional<ExitCode> code;
    try {
      write_shard(dir / "bad.h5", info, 30);
    } catch (const Error& e) {
      code = e.code();
    }
    file_ops::set_fault("");
    // The last operation may be the truncation to a smaller size, which needs no space.
    EXPECT_TRUE(code == (full ? ExitCode::kDiskFull : ExitCode::kFailed) ||
                (full && n == operations && !code))
        << n;
    write_shard(dir / "after.h5", info, 30);
    EXPECT_EQ(ShardFile(dir / "after.h5", info).index().samples(), 30);
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, PairShardOnABadDisk,
                         ::testing::Values("enospc", "enospc-once", "eio", "eio-once"));

TEST(PairCodec, ErrorsAreWithinTheTypesPrecision) {
  const at::Tensor x = testing::seeded({50, 3, 2, 8}, 9, 4.0);
  const std::pair<StorageType, double> bounds[] = {{StorageType::kFloat32, 0.0},
                                                   {StorageType::kBFloat16, 3e-3},
                                                   {StorageType::kFloat16, 4e-4},
                                                   {StorageType::kInt8, 6e-3}};
  for (const auto& [type, bound] : bounds) {
    at::Tensor scales;
    const at::Tensor stored = encode_rows(x, type, &scales);
    const StorageError error = storage_error(x, stored, scales);
    EXPECT_LE(error.relative_rms, bound) << to_string(type);
    EXPECT_TRUE(bound == 0 || error.relative_rms > bound / 100) << to_string(type);
  }
  at::Tensor scales;
  const at::Tensor zeros = at::zeros({4, 1, 1, 8});
  EXPECT_TRUE(at::equal(
      decode_rows(encode_rows(zeros, StorageType::kInt8, &scales), scales, at::kFloat), zeros));
}

TEST(PairCodec, FindsTheFirstUnusableNumber) {
  for (at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    at::Tensor x = testing::seeded({10007}, 3).to(type);
    x[1] = 60000.0;
    EXPECT_EQ(first_unusable(x), -1);
    x[9000] = std::numeric_limits<double>::infinity();
    x[9001] = std::nan("");
    EXPECT_EQ(first_unusable(x), 9000);
    if (type == at::kHalf) continue;
    x[8000] = -3e38;
    EXPECT_EQ(first_unusable(x), 8000);
    x[8000] = 0.999 * kLargestUsable;
    x[8001] = kLargestUsable;
    EXPECT_EQ(first_unusable(x), type == at::kFloat ? 8001 : 8000) << "bfloat16 rounds it up";
  }
}

}  // namespace
}  // namespace kvlingua
