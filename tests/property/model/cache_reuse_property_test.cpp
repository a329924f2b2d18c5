// A same-model cache is lossless where it was made: continuing from it equals reading the whole
// text. Moved without re-rotation it is not; moved and re-rotated it is again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "support/tensors.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

using testing::distance;
using testing::tiny_config;
using testing::tiny_model;

std::vector<int64_t> any_tokens(int64_t least, int64_t most) {
  return *rc::gen::container<std::vector<int64_t>>(
      static_cast<size_t>(*rc::gen::inRange(least, most)), rc::gen::inRange<int64_t>(0, 97));
}

// Models of each architecture, and a Llama whose rotation is scaled.
const CausalLM& any_model() {
  static const std::vector<CausalLM> models = [] {
    std::vector<CausalLM> all;
    for (const auto architecture :
         {Architecture::kQwen2, Architecture::kQwen3, Architecture::kLlama})
      all.push_back(tiny_model(architecture));
    ModelConfig config = tiny_config(Architecture::kLlama);
    config.rope.type = RopeType::kYarn;
    config.rope.factor = 4;
    config.rope.original_max_position = 64;
    config.rope.attention_factor = 1.1386;
    all.push_back(CausalLM::random(config));
    for (const auto& [name, t] : all.back().parameters()) {
      if (t.dim() == 2) t.mul_(10);
    }
    return all;
  }();
  return models[*rc::gen::inRange<size_t>(0, models.size())];
}

at::Tensor logits(const CausalLM& model, const std::vector<int64_t>& ids, const KvCache* past,
                  int64_t position) {
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  TokenBatch batch = TokenBatch::from_rows({ids});
  batch.positions_BT =
      at::arange(position, position + static_cast<int64_t>(ids.size())).unsqueeze(0);
  return model.prefill(batch, past, options).logits[0];
}

TEST(CacheReuse, SamePlaceIsLosslessShiftedIsNotReRotatedIsAgain) {
  int noticed = 0, tried = 0;
  EXPECT_TRUE(rc::check([&] {
    const CausalLM& model = any_model();
    const auto context = any_tokens(2, 24), question = any_tokens(1, 10);
    const auto shift = *rc::gen::inRange<int64_t>(1, 400);
    const auto n = static_cast<int64_t>(context.size());
    auto whole = context;
    whole.insert(whole.end(), question.begin(), question.end());
    const at::Tensor expected =
        logits(model, whole, nullptr, 0).narrow(0, n, static_cast<int64_t>(question.size()));
    const KvCache cache = model.prefill(TokenBatch::from_rows({context})).cache;

    RC_ASSERT(distance(logits(model, question, &cache, n), expected) < 2e-5);
    // The whole text further on gives the same: only distances matter. The cache re-rotated there
    // does too.
    const KvCache moved = cache.rotated_to(model.rope(), cache.positions() + shift);
    RC_ASSERT(distance(logits(model, question, &moved, n + shift), expected) < 1e-3);
    // Declared to stand there with its old rotation, it is read wrongly.
    const KvCache shifted = cache.relabelled(cache.positions() + shift);
    ++tried;
    if (distance(logits(model, question, &shifted, n + shift), expected) > 1e-2) ++noticed;
  }));
  EXPECT_GE(noticed, tried * 9 / 10)
      << "of " << tried << ": a shift without re-rotation went unnoticed";
}

TEST(CacheReuse, CutAnywhereIsLossless) {
  EXPECT_TRUE(rc::check([] {
    const CausalLM& model = any_model();
    const auto ids = any_tokens(3, 30);
    const auto n = static_cast<int64_t>(ids.size());
    const auto cut = *rc::gen::inRange<int64_t>(1, n);
    const KvCache whole = model.prefill(TokenBatch::from_rows({ids})).cache;
    const KvCache head = whole.slice(0, cut);
    const std::vector<int64_t> tail(ids.begin() + cut, ids.end());
    const KvCache rest = model.prefill(TokenBatch::from_rows({tail}), &head).cache;
    RC_ASSERT(distance(rest.keys(), whole.slice(cut, n).keys()) < 2e-5);
    RC_ASSERT(distance(rest.values(), whole.slice(cut, n).values()) < 2e-5);
    RC_ASSERT(at::equal(rest.positions(), whole.slice(cut, n).positions()));
  }));
}

}  // namespace
}  // namespace kvlingua
