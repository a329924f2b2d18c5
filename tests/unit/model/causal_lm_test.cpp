// The runtime against itself: padding, pasts, captures, gradients and the two implementations of a
// layer.
#include "kvlingua/model/causal_lm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

using testing::tiny_config;
using testing::tiny_model;

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

std::vector<int64_t> tokens(int64_t n, uint64_t seed = 5) {
  Random random(seed);
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int64_t>(random.below(97)));
  return ids;
}

PrefillResult run(const CausalLM& model, const TokenBatch& batch, const KvCache* past = nullptr,
                  LogitsAt logits = LogitsAt::kAll) {
  PrefillOptions options;
  options.logits = logits;
  return model.prefill(batch, past, options);
}

class EveryArchitecture : public ::testing::TestWithParam<Architecture> {};
INSTANTIATE_TEST_SUITE_P(All, EveryArchitecture,
                         ::testing::Values(Architecture::kQwen2, Architecture::kQwen3,
                                           Architecture::kLlama),
                         [](const auto& info) { return to_string(info.param); });

TEST_P(EveryArchitecture, PaddedBatchesEqualSingleRuns) {
  const CausalLM model = tiny_model(GetParam());
  const std::vector<std::vector<int64_t>> rows{tokens(7, 1), tokens(12, 2), tokens(1, 3),
                                               tokens(9, 4)};
  // The same rows with padding in the middle: columns drawn at random for each row.
  TokenBatch scattered;
  scattered.ids_BT = at::zeros({4, 14}, at::kLong);
  scattered.mask_BT = at::zeros({4, 14}, at::kBool);
  Random random(9);
  for (int64_t r = 0; r < 4; ++r) {
    auto columns = random.permutation(14);
    columns.resize(rows[static_cast<size_t>(r)].size());
    std::sort(columns.begin(), columns.end());
    for (size_t i = 0; i < columns.size(); ++i) {
      scattered.ids_BT[r][columns[i]] = rows[static_cast<size_t>(r)][i];
      scattered.mask_BT[r][columns[i]] = true;
    }
  }
  for (const TokenBatch& batch :
       {TokenBatch::from_rows(rows), TokenBatch::from_rows(rows, true, 3), scattered}) {
    const PrefillResult all = run(model, batch);
    const PrefillResult last = run(model, batch, nullptr, LogitsAt::kLast);
    for (int64_t r = 0; r < 4; ++r) {
      const PrefillResult one = run(model, TokenBatch::from_rows({rows[static_cast<size_t>(r)]}));
      const at::Tensor real = batch.mask_BT[r].nonzero().flatten();
      EXPECT_LT(distance(all.logits[r].index_select(0, real), one.logits[0]), 1e-5);
      EXPECT_LT(distance(last.logits[r], one.logits[0][-1]), 1e-5);
      EXPECT_LT(distance(all.cache.keys().select(1, r).index_select(2, real),
                         one.cache.keys().select(1, 0)),
                1e-5);
      EXPECT_LT(distance(all.cache.values().select(1, r).index_select(2, real),
                         one.cache.values().select(1, 0)),
                1e-5);
      EXPECT_TRUE(
          at::equal(all.cache.positions()[r].index_select(0, real), one.cache.positions()[0]));
    }
    EXPECT_LT(distance(last.cache.keys(), all.cache.keys()), 1e-6);
  }
}

TEST_P(EveryArchitecture, PrefillInPartsEqualsPrefillOfTheWhole) {
  const CausalLM model = tiny_model(GetParam());
  const auto ids = tokens(13);
  const PrefillResult whole = run(model, TokenBatch::from_rows({ids}));
  for (const int64_t cut : {1, 6, 12}) {
    const std::vector<int64_t> head(ids.begin(), ids.begin() + cut),
        tail(ids.begin() + cut, ids.end());
    const PrefillResult first = run(model, TokenBatch::from_rows({head}));
    const PrefillResult second = run(model, TokenBatch::from_rows({tail}), &first.cache);
    EXPECT_LT(distance(at::cat({first.logits, second.logits}, 1), whole.logits), 1e-5);
    const KvCache joined = KvCache::concat(first.cache, second.cache);
    EXPECT_LT(distance(joined.keys(), whole.cache.keys()), 1e-5);
    EXPECT_LT(distance(joined.values(), whole.cache.values()), 1e-5);
    EXPECT_TRUE(at::equal(joined.positions(), whole.cache.positions()));
    for (const LogitsAt at_last : {LogitsAt::kLast}) {
      EXPECT_LT(distance(run(model, TokenBatch::from_rows({tail}), &first.cache, at_last).logits,
                         whole.logits.select(1, 12)),
                1e-5);
    }
  }
}

// Attention over keys and values that the caller gives for the new tokens.
TEST_P(EveryArchitecture, GivenKeysAndValuesReplaceItsOwn) {
  const CausalLM model = tiny_model(GetParam());
  const TokenBatch head = TokenBatch::from_rows({tokens(6, 1), tokens(4, 2)}),
                   tail = TokenBatch::from_rows({tokens(5, 3), tokens(3, 4)});
  const KvCache past = run(model, head).cache;
  PrefillOptions options;
  options.logits = LogitsAt::kAll;
  for (const KvCache* before : {static_cast<const KvCache*>(nullptr), &past}) {
    const PrefillResult plain = run(model, tail, before);
    options.given = &plain.cache;
    const PrefillResult same = model.prefill(tail, before, options);
    EXPECT_LT(distance(same.logits, plain.logits), 1e-5);
    EXPECT_LT(distance(same.cache.keys(), plain.cache.keys()), 1e-5);

    const KvCache other(plain.cache.keys() * 1.5, (plain.cache.values() + 1).requires_grad_(true),
                        plain.cache.positions(), plain.cache.rope(), plain.cache.mask());
    options.given = &other;
    for (const bool recompute : {false, true}) {
      options.checkpoint_activations = recompute;
      const PrefillResult changed = model.prefill(tail, before, options);
      EXPECT_GT(distance(changed.logits, plain.logits), 1e-3);
      changed.logits.square().sum().backward();
    }
    options.checkpoint_activations = false;
    EXPECT_GT(other.values().grad().abs().max().item<double>(), 0);
  }
  const KvCache shorter = past.slice(0, 3);
  options.given = &shorter;
  EXPECT_THROW(model.prefill(tail, nullptr, options), Error);
}

TEST_P(EveryArchitecture, APaddedPastEqualsSingleRuns) {
  const CausalLM model = tiny_model(GetParam());
  const std::vector<std::vector<int64_t>> heads{tokens(3, 1), tokens(8, 2)},
      tails{tokens(5, 3), tokens(2, 4)};
  for (const bool left : {false, true}) {
    const PrefillResult first = run(model, TokenBatch::from_rows(heads, left));
    const PrefillResult second =
        run(model, TokenBatch::from_rows(tails, left), &first.cache, LogitsAt::kLast);
    for (size_t r = 0; r < 2; ++r) {
      auto ids = heads[r];
      ids.insert(ids.end(), tails[r].begin(), tails[r].end());
      const PrefillResult one = run(model, TokenBatch::from_rows({ids}), nullptr, LogitsAt::kLast);
      EXPECT_LT(distance(second.logits[static_cast<int64_t>(r)], one.logits[0]), 1e-5);
    }
  }
}

// The differentiable layers against the frozen ones: values, every capture, with and without
// checkpointing.
TEST_P(EveryArchitecture, BothImplementationsAgree) {
  const CausalLM model = tiny_model(GetParam(), 2, false);
  const auto batch = TokenBatch::from_rows({tokens(5, 1), tokens(9, 2)}, true);
  const KvCache past = run(model, TokenBatch::from_rows({tokens(4, 7), tokens(4, 8)})).cache;
  PrefillOptions options;
  options.logits = LogitsAt::kPositions;
  options.logit_positions = at::tensor({0, 4, 1, 0, 1, 8}, at::kLong).view({3, 2});
  options.want_queries = options.want_attention_outputs = options.want_hidden = true;
  for (const bool with_past : {false, true}) {
    const KvCache injected(past.keys().clone().requires_grad_(true), past.values().clone(),
                           past.positions(), past.rope());
    const PrefillResult frozen = model.prefill(batch, with_past ? &past : nullptr, options);
    for (const bool checkpointed : {false, true}) {
      options.checkpoint_activations = checkpointed;
      if (!with_past) model.parameters()[0].second.requires_grad_(true);
      const PrefillResult graph = model.prefill(batch, with_past ? &injected : nullptr, options);
      model.parameters()[0].second.requires_grad_(false);
      EXPECT_TRUE(graph.logits.requires_grad());
      const at::Tensor real = batch.mask_BT.view({1, 2, 1, 9, 1});
      EXPECT_LT(distance(graph.logits, frozen.logits), 1e-5);
      EXPECT_LT(distance(graph.cache.keys() * real, frozen.cache.keys() * real), 1e-5);
      EXPECT_LT(distance(graph.cache.values() * real, frozen.cache.values() * real), 1e-5);
      EXPECT_LT(distance(graph.queries * real, frozen.queries * real), 1e-5);
      EXPECT_LT(distance(graph.attention_outputs * real, frozen.attention_outputs * real), 1e-5);
      EXPECT_LT(
          distance(graph.hidden * real.view({1, 2, 9, 1}), frozen.hidden * real.view({1, 2, 9, 1})),
          1e-5);
      EXPECT_EQ(frozen.queries.sizes().vec(),
                (std::vector<int64_t>{3, 2, 4, 9, model.config().head_dim}));
      EXPECT_EQ(frozen.hidden.sizes().vec(), (std::vector<int64_t>{4, 2, 9, 32}));
    }
  }
}

// d loss / d past, against central differences along random directions.
TEST_P(EveryArchitecture, GradientOfAnInjectedPast) {
  const CausalLM model = tiny_model(GetParam());
  const auto batch = TokenBatch::from_rows({tokens(6, 1), tokens(4, 2)});
  const KvCache past = run(model, TokenBatch::from_rows({tokens(5, 3), tokens(5, 4)})).cache;
  at::manual_seed(1);
  const at::Tensor seed = at::randn({2, 6, 97}) * batch.mask_BT.unsqueeze(2);
  const auto loss = [&](const at::Tensor& keys, const at::Tensor& values, bool checkpointed) {
    PrefillOptions options;
    options.logits = LogitsAt::kAll;
    options.checkpoint_activations = checkpointed;
    const KvCache injected(keys, values, past.positions(), past.rope());
    return (model.prefill(batch, &injected, options).logits * seed).sum();
  };
  at::Tensor plain_gradient;
  for (const bool checkpointed : {false, true}) {
    const at::Tensor keys = past.keys().clone().requires_grad_(true),
                     values = past.values().clone().requires_grad_(true);
    loss(keys, values, checkpointed).backward();
    for (const bool of_keys : {true, false}) {
      const at::Tensor direction = at::randn_like(past.keys());
      const double expected = ((of_keys ? keys : values).grad() * direction).sum().item<double>();
      const double step = 2e-3;
      const at::Tensor shift = direction * step;
      const at::NoGradGuard no_grad;
      const double up =
          (of_keys ? loss(keys + shift, values, false) : loss(keys, values + shift, false))
              .item<double>();
      const double down =
          (of_keys ? loss(keys - shift, values, false) : loss(keys, values - shift, false))
              .item<double>();
      EXPECT_NEAR((up - down) / (2 * step), expected, 2e-2 * std::abs(expected) + 0.5);
    }
    if (checkpointed) {
      EXPECT_LT(distance(keys.grad(), plain_gradient), 1e-4);
    }
    plain_gradient = keys.grad();
  }
}

// Every named parameter gets its gradient, the checkpointed pass gives the same one, and frozen
// inference sees an update.
TEST_P(EveryArchitecture, TrainsThroughNamedParameters) {
  const CausalLM model = tiny_model(GetParam(), 3, false);
  const auto batch = TokenBatch::from_rows({tokens(6, 1), tokens(4, 2)});
  std::vector<at::Tensor> plain;
  for (const bool checkpointed : {false, true}) {
    PrefillOptions options;
    options.logits = LogitsAt::kAll;
    options.want_cache = false;
    options.checkpoint_activations = checkpointed;
    for (const auto& [name, t] : model.parameters()) {
      EXPECT_TRUE(t.is_leaf()) << name;
      t.requires_grad_(true);
      t.mutable_grad().reset();
    }
    model.prefill(batch, nullptr, options).logits.square().mean().backward();
    size_t i = 0;
    for (const auto& [name, t] : model.parameters()) {
      ASSERT_TRUE(t.grad().defined()) << name;
      EXPECT_GT(t.grad().abs().max().item<double>(), 0) << name;
      if (!checkpointed) {
        plain.push_back(t.grad().clone());
      } else {
        EXPECT_LT(distance(t.grad(), plain[i++]), 1e-4) << name;
      }
    }
  }
  const auto loss = [&] {
    const at::NoGradGuard no_grad;
    return run(model, batch).logits.square().mean().item<double>();
  };
  const double before = loss();
  {
    const at::NoGradGuard no_grad;
    for (const auto& [name, t] : model.parameters()) t.sub_(t.grad(), 1e-3);
  }
  EXPECT_LT(loss(), before);
}

TEST(CausalLM, RandomIsSeeded) {
  const CausalLM a = CausalLM::random(tiny_config(Architecture::kQwen3), {}, 1),
                 b = CausalLM::random(tiny_config(Architecture::kQwen3), {}, 1),
                 c = CausalLM::random(tiny_config(Architecture::kQwen3), {}, 2);
  const auto batch = TokenBatch::from_rows({tokens(4)});
  EXPECT_TRUE(at::equal(run(a, batch).logits, run(b, batch).logits));
  EXPECT_FALSE(at::equal(run(a, batch).logits, run(c, batch).logits));
  EXPECT_EQ(a.fingerprint(), b.fingerprint());
  EXPECT_NE(a.fingerprint(), c.fingerprint());
}

TEST(CausalLM, NoCacheNoLogitsWhereNotAsked) {
  const CausalLM model = tiny_model(Architecture::kLlama);
  PrefillOptions options;
  const PrefillResult cache_only =
      model.prefill(TokenBatch::from_rows({tokens(4)}), nullptr, options);
  EXPECT_FALSE(cache_only.logits.defined());
  options.want_cache = false;
  options.logits = LogitsAt::kLast;
  const PrefillResult logits_only =
      model.prefill(TokenBatch::from_rows({tokens(4)}), nullptr, options);
  EXPECT_TRUE(logits_only.cache.empty());
  EXPECT_EQ(logits_only.logits.sizes().vec(), (std::vector<int64_t>{1, 97}));
}

// ---- bad input: one line, the right exit code ----

template <class F>
void expect_error(F f, ExitCode code, const std::string& words) {
  try {
    f();
    FAIL() << "no error: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(CausalLM, RefusesBadBatches) {
  const CausalLM model = tiny_model(Architecture::kQwen2);
  expect_error(
      [&] {
        run(model, TokenBatch::from_rows({{1, 97}}));
      },
      ExitCode::kInput, "outside the vocabulary: got 97");
  expect_error([&] { run(model, TokenBatch::from_rows({{-1}})); }, ExitCode::kInput,
               "outside the vocabulary: got -1");
  expect_error([&] { run(model, TokenBatch{}); }, ExitCode::kInput, "no tokens");
  expect_error(
      [&] {
        run(model, TokenBatch::from_rows({{1}, {}}));
      },
      ExitCode::kInput, "padding only");
  expect_error([&] { run(model, TokenBatch::from_rows({tokens(513)})); }, ExitCode::kInput,
               "position 512, expected 0 to 511");
  const KvCache past = run(model, TokenBatch::from_rows({tokens(510)})).cache;
  EXPECT_NO_THROW(run(model, TokenBatch::from_rows({tokens(2)}), &past));
  expect_error([&] { run(model, TokenBatch::from_rows({tokens(3)}), &past); }, ExitCode::kInput,
               "position 512");
  expect_error(
      [&] {
        run(model, TokenBatch::from_rows({tokens(1), tokens(1)}), &past);
      },
      ExitCode::kInput, "rows differ");
  const KvCache unrotated = past.unrotated();
  expect_error([&] { run(model, TokenBatch::from_rows({tokens(1)}), &unrotated); },
               ExitCode::kInput, "not rotated");
  const KvCache foreign =
      run(tiny_model(Architecture::kQwen3), TokenBatch::from_rows({tokens(2)})).cache;
  expect_error([&] { run(model, TokenBatch::from_rows({tokens(1)}), &foreign); }, ExitCode::kInput,
               "does not fit the model");
}

TEST(CausalLM, CudaAskedForAndAbsent) {
  if (at::getNumGPUs() > 0) GTEST_SKIP() << "there is a CUDA device";
  LoadOptions options;
  options.device = at::Device("cuda:0");
  expect_error([&] { CausalLM::random(tiny_config(Architecture::kLlama), options); },
               ExitCode::kDevice, "CUDA was asked for");
}

}  // namespace
}  // namespace kvlingua
