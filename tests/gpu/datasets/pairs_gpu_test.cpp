// On a GPU: generation through pinned memory and a copy stream stores what the CPU stores, and the
// loader's batches on the device equal those on the host.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "datasets/generate.h"
#include "datasets/loading/pair_loader.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/base/log.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua {
namespace {

class PairsOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
    set_log_level(LogLevel::kError);
    testing::save_tiny_pair(models_.path());
  }
  Recipe recipe() const {
    Recipe r = testing::tiny_recipe(models_.path(), "  queries: true\n");
    r.pair.source.dtype = r.pair.target.dtype = "float32";
    return r;
  }
  TempDir models_;
};

TEST_F(PairsOnGpu, StoreWhatTheCpuStores) {
  const TempDir cpu, gpu;
  generate(recipe(), testing::tiny_context(cpu.path()));
  RunContext context = testing::tiny_context(gpu.path());
  context.device = "cuda:0";
  generate(recipe(), context);
  EXPECT_TRUE(verify_pairs(gpu / "datasets/tiny").clean());
  const PairReader a = PairReader::open(cpu / "datasets/tiny"),
                   b = PairReader::open(gpu / "datasets/tiny");
  ASSERT_EQ(a.samples(), b.samples());
  for (int64_t i = 0; i < a.samples(); ++i) {
    const PairSample x = a.sample(i), y = b.sample(i);
    EXPECT_TRUE(at::allclose(x.source.keys(), y.source.keys(), 1e-3, 1e-3));
    EXPECT_TRUE(at::allclose(x.target.values(), y.target.values(), 1e-3, 1e-3));
    EXPECT_TRUE(at::allclose(x.target_queries, y.target_queries, 1e-3, 1e-3));
  }
}

TEST_F(PairsOnGpu, LoadTheSameBatches) {
  const TempDir set;
  generate(recipe(), testing::tiny_context(set.path()));
  for (LoadUnit unit : {LoadUnit::kRows, LoadUnit::kSequences}) {
    PairLoaderOptions options;
    options.unit = unit;
    options.batch_size = unit == LoadUnit::kRows ? 64 : 4;
    PairLoader host(PairReader::open(set / "datasets/tiny"), options);
    options.device = at::Device(at::kCUDA, 0);
    PairLoader device(PairReader::open(set / "datasets/tiny"), options);
    for (int i = 0; i < 20; ++i) {
      const auto a = host.next(), b = device.next();
      if (unit == LoadUnit::kRows) {
        EXPECT_TRUE(b->rows.target_keys.is_cuda());
        EXPECT_TRUE(at::equal(a->rows.source_keys, b->rows.source_keys.cpu()));
        EXPECT_TRUE(at::equal(a->rows.target_values, b->rows.target_values.cpu()));
      } else {
        EXPECT_TRUE(at::equal(a->sequences.source.keys(), b->sequences.source.keys().cpu()));
        EXPECT_TRUE(at::equal(a->sequences.alignment, b->sequences.alignment.cpu()));
      }
    }
  }
}

}  // namespace
}  // namespace kvlingua
