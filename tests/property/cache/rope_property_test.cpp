// RoPE as a group: strip(rotate(k)) = k, shift(a) then shift(b) = shift(a + b), for every RoPE
// type.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "kvlingua/cache/kv_cache.h"

namespace kvlingua {
namespace {

RopeSpec any_rope(int64_t head_dim) {
  RopeSpec rope;
  rope.head_dim = head_dim;
  rope.type =
      *rc::gen::element(RopeType::kDefault, RopeType::kLinear, RopeType::kLlama3, RopeType::kYarn);
  rope.theta = *rc::gen::element(10000.0, 500000.0, 1000000.0);
  if (rope.type != RopeType::kDefault) rope.factor = *rc::gen::element(2.0, 4.0, 8.0, 32.0);
  rope.original_max_position = *rc::gen::element<int64_t>(64, 2048, 8192);
  if (rope.type == RopeType::kYarn) rope.attention_factor = 0.1 * std::log(rope.factor) + 1.0;
  return rope;
}

KvCache any_cache(const at::Tensor& positions) {
  const int64_t head_dim = 2 * *rc::gen::inRange<int64_t>(1, 33);
  at::manual_seed(*rc::gen::inRange<uint64_t>(0, 1000));
  const std::vector<int64_t> size{2, 1, *rc::gen::inRange<int64_t>(1, 4), positions.size(1),
                                  head_dim};
  return KvCache(at::randn(size), at::randn(size), positions, std::nullopt);
}

at::Tensor any_positions(int64_t tokens) {
  const auto start = *rc::gen::inRange<int64_t>(0, 2000);
  return at::arange(start, start + tokens).unsqueeze(0);
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(RopeProperty, StripUndoesRotate) {
  EXPECT_TRUE(rc::check([] {
    const KvCache cache = any_cache(any_positions(*rc::gen::inRange<int64_t>(1, 20)));
    const KvCache back =
        cache.rotated_to(any_rope(cache.head_dim()), cache.positions()).unrotated();
    RC_ASSERT(distance(back.keys(), cache.keys()) < 1e-5);
    RC_ASSERT(at::equal(back.values(), cache.values()));
  }));
}

TEST(RopeProperty, ShiftsCompose) {
  EXPECT_TRUE(rc::check([] {
    const KvCache cache = any_cache(any_positions(*rc::gen::inRange<int64_t>(1, 20)));
    const RopeSpec rope = any_rope(cache.head_dim());
    const KvCache start = cache.rotated_to(rope, cache.positions());
    const auto a = *rc::gen::inRange<int64_t>(0, 500), b = *rc::gen::inRange<int64_t>(0, 500);
    const KvCache twice =
        start.rotated_to(rope, start.positions() + a).rotated_to(rope, start.positions() + a + b);
    const KvCache once = start.rotated_to(rope, start.positions() + (a + b));
    RC_ASSERT(distance(twice.keys(), once.keys()) < 2e-5);
    RC_ASSERT(at::equal(twice.positions(), once.positions()));
  }));
}

TEST(RopeProperty, RotationChangesTheKeysAndScoresSeeOnlyDistance) {
  EXPECT_TRUE(rc::check([] {
    const KvCache cache = any_cache(any_positions(2));
    const RopeSpec rope = any_rope(cache.head_dim());
    const auto shift = *rc::gen::inRange<int64_t>(1, 500);
    const auto scores = [&](const at::Tensor& positions) {
      const at::Tensor k = cache.rotated_to(rope, positions).keys();
      return k.matmul(k.transpose(-1, -2));
    };
    const at::Tensor here = scores(cache.positions());
    const double scale = here.abs().max().item<double>() + 1;
    RC_ASSERT(distance(here, scores(cache.positions() + shift)) < 1e-3 * scale);
    // Only one of the two moved: the score between them must change for a generic pair.
    const at::Tensor moved = cache.positions() + at::tensor({int64_t{0}, shift}).unsqueeze(0);
    RC_ASSERT(distance(here, scores(moved)) > 0);
  }));
}

}  // namespace
}  // namespace kvlingua
