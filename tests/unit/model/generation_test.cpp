// Generation and decode sessions: the same text as uncached prefill, whatever the batch, padding,
// past or growth.
#include "kvlingua/model/generation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "../../../src/model/sampler.h"
#include "kvlingua/base/error.h"
#include "kvlingua/model/decode_session.h"
#include "support/tensors.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

using testing::distance;
using testing::tiny_model;

std::vector<int64_t> tokens(int64_t n, uint64_t seed) {
  Random random(seed);
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int64_t>(random.below(97)));
  return ids;
}

at::Tensor last_logits(const CausalLM& model, const std::vector<int64_t>& ids) {
  PrefillOptions options;
  options.logits = LogitsAt::kLast;
  return model.prefill(TokenBatch::from_rows({ids}), nullptr, options).logits[0];
}

// Greedy continuation without any cache.
std::vector<int64_t> uncached(const CausalLM& model, std::vector<int64_t> ids, int64_t n) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < n; ++i) {
    out.push_back(last_logits(model, ids).argmax().item<int64_t>());
    ids.push_back(out.back());
  }
  return out;
}

class Generation : public ::testing::TestWithParam<Architecture> {};
INSTANTIATE_TEST_SUITE_P(All, Generation,
                         ::testing::Values(Architecture::kQwen2, Architecture::kQwen3,
                                           Architecture::kLlama),
                         [](const auto& info) { return to_string(info.param); });

TEST_P(Generation, GreedyEqualsUncached) {
  const CausalLM model = tiny_model(GetParam());
  const std::vector<std::vector<int64_t>> rows{tokens(7, 1), tokens(12, 2), tokens(1, 3)};
  GenerationOptions options;
  options.max_new_tokens = 70;  // past the first reservation of a session
  for (const bool left : {false, true}) {
    const auto got = generate(model, TokenBatch::from_rows(rows, left), nullptr, options);
    for (size_t r = 0; r < rows.size(); ++r) {
      EXPECT_EQ(got[r].ids, uncached(model, rows[r], 70));
      EXPECT_EQ(got[r].ids,
                generate(model, TokenBatch::from_rows({rows[r]}), nullptr, options)[0].ids)
          << "alone";
      EXPECT_EQ(got[r].logprobs.size(), 70u);
    }
  }
}

TEST_P(Generation, FromAnInjectedCacheEqualsTheWholeText) {
  const CausalLM model = tiny_model(GetParam());
  const std::vector<std::vector<int64_t>> contexts{tokens(5, 1), tokens(11, 2)},
      questions{tokens(3, 3), tokens(6, 4)};
  const KvCache past = model.prefill(TokenBatch::from_rows(contexts)).cache;
  const std::string before = past.fingerprint();
  GenerationOptions options;
  options.max_new_tokens = 12;
  const auto got = generate(model, TokenBatch::from_rows(questions, true), &past, options);
  for (size_t r = 0; r < 2; ++r) {
    auto whole = contexts[r];
    whole.insert(whole.end(), questions[r].begin(), questions[r].end());
    EXPECT_EQ(got[r].ids, uncached(model, whole, 12));
  }
  EXPECT_EQ(past.fingerprint(), before) << "the past was changed";
}

TEST(GenerationOf, StopTokensEndRowsOneByOne) {
  const CausalLM model = tiny_model(Architecture::kQwen3);
  std::vector<std::vector<int64_t>> rows;
  for (uint64_t r = 0; r < 6; ++r) rows.push_back(tokens(4 + static_cast<int64_t>(r), 20 + r));
  GenerationOptions options;
  options.max_new_tokens = 25;
  const auto free = generate(model, TokenBatch::from_rows(rows), nullptr, options);
  for (size_t r = 0; r < 4; ++r) options.stop_ids.push_back(free[r].ids[3 * r + 1]);
  const auto stopped = generate(model, TokenBatch::from_rows(rows), nullptr, options);
  size_t ended = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::vector<int64_t> expected;
    for (const int64_t id : free[r].ids) {
      if (std::ranges::find(options.stop_ids, id) != options.stop_ids.end()) break;
      expected.push_back(id);
    }
    EXPECT_EQ(stopped[r].ids, expected) << r;
    EXPECT_EQ(stopped[r].stopped, expected.size() < 25);
    EXPECT_EQ(stopped[r].logprobs.size(), expected.size() + (stopped[r].stopped ? 1 : 0));
    ended += stopped[r].stopped;
  }
  EXPECT_GE(ended, 4u);
}

TEST(GenerationOf, LogprobsAreOfTheUntemperedDistribution) {
  const CausalLM model = tiny_model(Architecture::kLlama);
  GenerationOptions options;
  options.max_new_tokens = 5;
  options.temperature = 2.0;
  options.seed = 3;
  auto ids = tokens(6, 1);
  const auto row = generate(model, TokenBatch::from_rows({ids}), nullptr, options)[0];
  for (size_t i = 0; i < row.ids.size(); ++i) {
    EXPECT_NEAR(row.logprobs[i], last_logits(model, ids).log_softmax(0)[row.ids[i]].item<float>(),
                1e-4);
    ids.push_back(row.ids[i]);
  }
}

TEST(GenerationOf, SampledRowsDoNotDependOnTheirBatch) {
  const CausalLM model = tiny_model(Architecture::kQwen2);
  const std::vector<std::vector<int64_t>> rows{tokens(7, 1), tokens(12, 2), tokens(3, 3)};
  GenerationOptions options;
  options.max_new_tokens = 16;
  options.temperature = 1.0;
  options.seed = 11;
  options.row_seeds = {100, 101, 102};
  const auto together = generate(model, TokenBatch::from_rows(rows), nullptr, options);
  EXPECT_NE(together[0].ids, together[1].ids);
  for (size_t r = 0; r < 3; ++r) {
    options.row_seeds = {100 + r};
    EXPECT_EQ(generate(model, TokenBatch::from_rows({rows[r]}), nullptr, options)[0].ids,
              together[r].ids);
  }
  options.row_seeds = {102, 100, 101};
  const auto reordered =
      generate(model, TokenBatch::from_rows({rows[2], rows[0], rows[1]}, true), nullptr, options);
  EXPECT_EQ(reordered[0].ids, together[2].ids);
  EXPECT_EQ(reordered[1].ids, together[0].ids);
  options.seed = 12;
  EXPECT_NE(
      generate(model, TokenBatch::from_rows({rows[2], rows[0], rows[1]}), nullptr, options)[0].ids,
      together[2].ids);
}

TEST(GenerationOf, EndsAtTheModelsLastPosition) {
  const CausalLM model = tiny_model(Architecture::kLlama);
  GenerationOptions options;
  options.max_new_tokens = 50;
  const auto rows =
      generate(model, TokenBatch::from_rows({tokens(505, 1), tokens(490, 2)}), nullptr, options);
  EXPECT_EQ(rows[0].ids.size(), 8u);  // the eighth token needs no position of its own any more
  EXPECT_EQ(rows[1].ids.size(), 23u);
  EXPECT_EQ(rows[0].finish_reason(), "length");
}

TEST(GenerationOf, RefusesBadOptions) {
  const CausalLM model = tiny_model(Architecture::kLlama);
  const auto prompt = TokenBatch::from_rows({{1, 2}});
  GenerationOptions options;
  for (const auto& change : std::vector<std::function<void(GenerationOptions&)>>{
           [](auto& o) { o.max_new_tokens = -1; }, [](auto& o) { o.temperature = -0.5; },
           [](auto& o) { o.temperature = NAN; }, [](auto& o) { o.top_k = -1; },
           [](auto& o) { o.top_p = 0; }, [](auto& o) { o.top_p = 1.5; },
           [](auto& o) {
             o.row_seeds = {1, 2};
           }}) {
    GenerationOptions bad = options;
    change(bad);
    EXPECT_THROW(generate(model, prompt, nullptr, bad), Error);
  }
  options.max_new_tokens = 0;
  EXPECT_TRUE(generate(model, prompt, nullptr, options)[0].ids.empty());
}

TEST(DecodeSession, AppendStepAndCacheAgreeWithPrefill) {
  const CausalLM model = tiny_model(Architecture::kQwen3);
  DecodeSession session(model, 2, 8);
  const std::vector<std::vector<int64_t>> rows{tokens(5, 1), tokens(9, 2)};
  PrefillOptions options;
  options.logits = LogitsAt::kLast;
  const PrefillResult whole = model.prefill(TokenBatch::from_rows(rows), nullptr, options);
  EXPECT_LT(distance(session.append(TokenBatch::from_rows(rows)), whole.logits), 1e-5);
  EXPECT_EQ(session.next_positions(), (std::vector<int64_t>{5, 9}));
  session.step(at::tensor({3, 4}, at::kLong));
  const at::Tensor all = session.append(TokenBatch::from_rows({{7, 8}, {9}}), LogitsAt::kAll);
  auto first = rows[0];
  for (const int64_t id : {3, 7, 8}) first.push_back(id);
  EXPECT_LT(distance(all[0][1], last_logits(model, first)), 1e-5);
  const KvCache cache = session.cache();
  const at::Tensor real = cache.mask()[0].nonzero().flatten();
  const KvCache alone = model.prefill(TokenBatch::from_rows({first})).cache;
  EXPECT_LT(distance(cache.keys().select(1, 0).index_select(2, real), alone.keys().select(1, 0)),
            1e-5);
  EXPECT_TRUE(at::equal(cache.positions()[0].index_select(0, real), alone.positions()[0]));
  session.keep_rows({1});
  auto second = rows[1];
  for (const int64_t id : {4, 9, 50}) second.push_back(id);
  EXPECT_LT(distance(session.step(at::tensor({50}, at::kLong))[0], last_logits(model, second)),
            1e-5);
  EXPECT_THROW(session.step(at::tensor({1, 2}, at::kLong)), Error);
  EXPECT_THROW(session.keep_rows({1}), Error);
  EXPECT_THROW(session.keep_rows({}), Error);
}

TEST(Sampler, TopKAndTopPKeepWhatTransformersKeeps) {
  const std::vector<float> logits{std::log(.5f), std::log(.05f), std::log(.25f), std::log(.15f),
                                  std::log(.05f)};
  const auto drawn = [&](const SamplingOptions& options) {
    std::map<int64_t, int> counts;
    Random random(1);
    for (int i = 0; i < 20000; ++i) ++counts[sample(logits, options, random)];
    return counts;
  };
  auto counts = drawn({1.0, 0, 1.0});
  EXPECT_NEAR(counts[0] / 20000.0, .5, .02);
  EXPECT_NEAR(counts[3] / 20000.0, .15, .02);
  counts = drawn({1.0, 2, 1.0});
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts[2] / 20000.0, 1 / 3.0, .02);
  EXPECT_EQ(drawn({1.0, 4, 1.0}).size(), 5u) << "a tie with the k-th stays";
  EXPECT_EQ(drawn({1.0, 0, .74}).size(), 2u);
  EXPECT_EQ(drawn({1.0, 0, .76}).size(), 3u);
  EXPECT_EQ(drawn({1.0, 0, 1e-9}).size(), 1u);
  EXPECT_NEAR(drawn({0.5, 0, 1.0})[0] / 20000.0, .25 / (.25 + .0625 + .0225 + .005), .02);
}

}  // namespace
}  // namespace kvlingua
