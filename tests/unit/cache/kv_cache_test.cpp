#include "kvlingua/cache/kv_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

KvCache make(int64_t layers, int64_t batch, int64_t heads, int64_t tokens, int64_t dim) {
  at::manual_seed(7);
  RopeSpec rope;
  rope.head_dim = dim;
  return KvCache(at::randn({layers, batch, heads, tokens, dim}),
                 at::randn({layers, batch, heads, tokens, dim}),
                 at::arange(tokens).unsqueeze(0).expand({batch, tokens}).contiguous(), rope);
}

TEST(KvShape, KnownBytesPerToken) {
  EXPECT_EQ((KvShape{22, 4, 64}.bytes_per_token(2)), 22528);  // TinyLlama 1.1B in fp16
  EXPECT_EQ((KvShape{24, 2, 64}.bytes_per_token(2)), 12288);  // Qwen2-0.5B in fp16
}

TEST(KvCache, ShapeBytesAndSlices) {
  const KvCache cache = make(3, 2, 2, 5, 8);
  EXPECT_EQ(cache.shape(), (KvShape{3, 2, 8}));
  EXPECT_EQ(cache.bytes(), 2 * 3 * 2 * 2 * 5 * 8 * 4);
  const KvCache joined = KvCache::concat(cache.slice(0, 2), cache.slice(2, 5));
  EXPECT_EQ(joined.fingerprint(), cache.fingerprint());
  EXPECT_NE(cache.slice(0, 4).fingerprint(), cache.slice(1, 5).fingerprint());
  const KvCache restacked = KvCache::stack_batch(
      {cache.select_batch(at::tensor({0})), cache.select_batch(at::tensor({1}))});
  EXPECT_EQ(restacked.fingerprint(), cache.fingerprint());
}

TEST(KvCache, FingerprintSeesOneBit) {
  const KvCache cache = make(1, 1, 1, 3, 4);
  KvCache other = cache.clone();
  EXPECT_EQ(cache.fingerprint(), other.fingerprint());
  other.values().view({-1}).data_ptr<float>()[5] += 1e-6f;
  EXPECT_NE(cache.fingerprint(), other.fingerprint());
}

TEST(KvCache, CloneIsDeep) {
  const KvCache cache = make(1, 1, 1, 3, 4);
  const KvCache copy = cache.clone();
  copy.keys().zero_();
  EXPECT_GT(cache.keys().abs().sum().item<float>(), 0.f);
}

TEST(KvCache, MisfitsNameBothShapes) {
  try {
    KvCache(at::zeros({1, 1, 1, 3, 4}), at::zeros({1, 1, 1, 2, 4}), at::zeros({1, 3}, at::kLong),
            std::nullopt);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_NE(std::string(error.what()).find("[1, 1, 1, 2, 4]"), std::string::npos) << error.what();
  }
  EXPECT_THROW(KvCache::concat(make(1, 1, 1, 3, 4), make(2, 1, 1, 3, 4)), Error);
  EXPECT_THROW(KvCache::concat(make(1, 1, 1, 3, 4), make(1, 1, 1, 3, 4).unrotated()), Error);
  EXPECT_THROW(make(1, 1, 1, 3, 4).slice(2, 5), Error);
}

}  // namespace
}  // namespace kvlingua
