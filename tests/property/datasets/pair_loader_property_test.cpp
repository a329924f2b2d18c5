// A loader resumed at any step gives the same batches, in the same order, for any number of ranks
// and any options.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <set>

#include "datasets/loading/pair_loader.h"
#include "kvlingua/base/error.h"
#include "kvlingua/projector/projector.h"
#include "support/pair_fixtures.h"

namespace kvlingua {
namespace {

using testing::make_pair_set;
using testing::make_sample;
using testing::small_info;

// One set for all cases: 60 samples in 5 shards.
const TempDir& small_set() {
  static const TempDir* dir = [] {
    auto* d = new TempDir;
    make_pair_set(d->path(), small_info(), 60, 13);
    return d;
  }();
  return *dir;
}

PairLoader make_loader(const PairLoaderOptions& options) {
  return PairLoader(PairReader::open(small_set().path()), options);
}

void same(const at::Tensor& a, const at::Tensor& b) {
  RC_ASSERT(a.defined() == b.defined());
  if (a.defined()) RC_ASSERT(at::equal(a, b));
}

void same_batch(const PairBatch& a, const PairBatch& b) {
  RC_ASSERT(a.epoch == b.epoch);
  RC_ASSERT(a.index == b.index);
  RC_ASSERT(a.rows.sample_ids == b.rows.sample_ids);
  same(a.rows.source_keys, b.rows.source_keys);
  same(a.rows.source_values, b.rows.source_values);
  same(a.rows.target_keys, b.rows.target_keys);
  same(a.rows.target_values, b.rows.target_values);
  same(a.rows.target_positions, b.rows.target_positions);
  same(a.sequences.alignment, b.sequences.alignment);
  RC_ASSERT(a.sequences.records.size() == b.sequences.records.size());
  for (size_t i = 0; i < a.sequences.records.size(); ++i)
    RC_ASSERT(a.sequences.records[i].id == b.sequences.records[i].id);
  if (!a.sequences.records.empty()) {
    same(a.sequences.source.keys(), b.sequences.source.keys());
    same(a.sequences.target.values(), b.sequences.target.values());
    same(a.sequences.target.mask(), b.sequences.target.mask());
  }
}

PairLoaderOptions any_options() {
  PairLoaderOptions o;
  o.unit = *rc::gen::element(LoadUnit::kRows, LoadUnit::kSequences);
  o.use = *rc::gen::element(LoadUse::kTrain, LoadUse::kAll);
  o.world = *rc::gen::element<int64_t>(1, 2, 4);
  o.rank = *rc::gen::inRange<int64_t>(0, o.world);
  o.batch_size = o.unit == LoadUnit::kRows ? *rc::gen::inRange<int64_t>(1, 40)
                                           : *rc::gen::inRange<int64_t>(1, 6);
  o.shuffle = *rc::gen::arbitrary<bool>();
  o.seed = *rc::gen::inRange<uint64_t>(0, 1000);
  o.buffer_bytes = *rc::gen::element<int64_t>(6 << 10, 40 << 10, 1 << 20);
  o.workers = *rc::gen::inRange<int64_t>(0, 4);
  o.prefetch = *rc::gen::inRange<int64_t>(1, 4);
  return o;
}

TEST(PairLoaderProperty, ResumedAtAnyStepGivesTheSameBatches) {
  EXPECT_TRUE(rc::check("resume", [] {
    const PairLoaderOptions options = any_options();
    const auto stop = *rc::gen::inRange<int64_t>(0, 25), more = *rc::gen::inRange<int64_t>(1, 10);
    PairLoader whole = make_loader(options);
    for (int64_t i = 0; i < stop; ++i) whole.next();
    // Through text, as a checkpoint keeps it; into a loader that has already gone elsewhere.
    const auto state = nlohmann::json::parse(whole.state().dump());
    PairLoader resumed = make_loader(options);
    const auto astray = *rc::gen::inRange<int64_t>(0, 4);
    for (int64_t i = 0; i < astray; ++i) resumed.next();
    resumed.restore(state);
    RC_ASSERT(resumed.state() == state);
    for (int64_t i = 0; i < more; ++i) {
      const auto a = whole.next(), b = resumed.next();
      RC_ASSERT(a.has_value() && b.has_value());
      same_batch(*a, *b);
    }
    RC_ASSERT(whole.state() == resumed.state());
  }));
}

// However many threads make the batches, and whether an epoch ends there.
TEST(PairLoaderProperty, WorkersDoNotChangeTheStream) {
  EXPECT_TRUE(rc::check("workers", [] {
    PairLoaderOptions options = any_options();
    options.epochs = *rc::gen::inRange<int64_t>(0, 3);
    options.workers = 0;
    PairLoader alone = make_loader(options);
    options.workers = *rc::gen::inRange<int64_t>(1, 6);
    PairLoader shared = make_loader(options);
    for (int64_t i = 0; i < 40; ++i) {
      const auto a = alone.next(), b = shared.next();
      RC_ASSERT(a.has_value() == b.has_value());
      RC_ASSERT(alone.state() == shared.state());
      if (!a) break;
      same_batch(*a, *b);
    }
  }));
}

// A row with previous tokens is what the whole sequence holds there, whatever the order.
TEST(PairLoaderProperty, RowsBringTheirPreviousTokens) {
  std::map<int64_t, std::map<int64_t, std::pair<at::Tensor, at::Tensor>>> expected;
  const PreviousTokens kPrevious{.tokens = 3, .layers = {1, 0}};
  PairLoader sequences = make_loader({.unit = LoadUnit::kSequences,
                                      .use = LoadUse::kAll,
                                      .batch_size = 1,
                                      .shuffle = false,
                                      .epochs = 1});
  while (const auto batch = sequences.next()) {
    const SequenceBatch& s = batch->sequences;
    const CacheRows rows = rows_of(s.source, s.alignment, kPrevious);
    for (int64_t t = 0; t < rows.rows(); ++t) {
      expected[s.records[0].id][s.target.positions()[0][t].item<int64_t>()] = {rows.keys_NLHD[t],
                                                                               rows.values_NLHD[t]};
    }
  }
  EXPECT_TRUE(rc::check("previous tokens", [&] {
    PairLoaderOptions options = any_options();
    options.unit = LoadUnit::kRows;
    options.previous_tokens = kPrevious;
    PairLoader loader = make_loader(options);
    const RowBatch rows = loader.next()->rows;
    for (int64_t i = 0; i < rows.size(); ++i) {
      const auto& [keys, values] = expected.at(
          rows.sample_ids[static_cast<size_t>(i)])[rows.target_positions[i].item<int64_t>()];
      RC_ASSERT(at::equal(rows.source_keys[i], keys));
      RC_ASSERT(at::equal(rows.source_values[i], values));
    }
  }));
}

// The ranks' batches, laid side by side, are the single process' stream.
TEST(PairLoaderProperty, RanksShareOneStream) {
  EXPECT_TRUE(rc::check("ranks", [] {
    PairLoaderOptions options = any_options();
    options.unit = LoadUnit::kRows;
    options.rank = 0;
    options.world = 1;
    const auto world = *rc::gen::element<int64_t>(2, 4);
    options.batch_size = world * *rc::gen::inRange<int64_t>(1, 10);
    PairLoader single = make_loader(options);
    std::vector<std::unique_ptr<PairLoader>> ranks;
    for (int64_t r = 0; r < world; ++r) {
      PairLoaderOptions mine = options;
      mine.rank = r;
      mine.world = world;
      mine.batch_size = options.batch_size / world;
      ranks.push_back(std::make_unique<PairLoader>(PairReader::open(small_set().path()), mine));
      RC_ASSERT(ranks.back()->batches_per_epoch() == single.batches_per_epoch());
    }
    for (int64_t step = 0; step < single.batches_per_epoch() + 2; ++step) {
      const auto whole = single.next();
      std::vector<at::Tensor> parts;
      for (auto& rank : ranks) parts.push_back(rank->next()->rows.target_keys);
      same(at::cat(parts), whole->rows.target_keys);
      RC_ASSERT(ranks[0]->state() ==
                single.state());  // so a run may go on with another number of ranks
    }
  }));
}

// Every row of an epoch once (but for a dropped rest), with the right partner, in an order that
// differs between epochs.
TEST(PairLoaderProperty, AnEpochIsAPermutationOfAlignedRows) {
  const PairSetInfo info = small_info();
  std::map<int64_t, testing::RawSample> samples;
  for (int64_t i = 0; i < 60; ++i) samples.emplace(i, make_sample(i, info));
  EXPECT_TRUE(rc::check("epoch", [&] {
    PairLoaderOptions options = any_options();
    options.unit = LoadUnit::kRows;
    options.use = *rc::gen::element(LoadUse::kTrain, LoadUse::kValidation, LoadUse::kAll);
    options.rank = 0;
    options.world = 1;
    options.drop_last = false;
    options.epochs = 1;
    PairLoader loader = make_loader(options);
    std::set<std::pair<int64_t, int64_t>> seen;
    std::vector<std::pair<int64_t, int64_t>> order;
    while (const auto batch = loader.next()) {
      const RowBatch& r = batch->rows;
      for (int64_t i = 0; i < r.size(); ++i) {
        const auto& s = samples.at(r.sample_ids[static_cast<size_t>(i)]);
        const int64_t row = r.target_positions[i].item<int64_t>() - 3,
                      from = r.source_positions[i].item<int64_t>() - 5;
        RC_ASSERT(s.record.alignment[static_cast<size_t>(row)] == from);
        RC_ASSERT(at::equal(r.target_keys[i], s.target_keys[row]));
        RC_ASSERT(at::equal(r.source_values[i], s.source_values[from]));
        RC_ASSERT(options.use == LoadUse::kAll ||
                  (s.record.use == SampleUse::kTrain) == (options.use == LoadUse::kTrain));
        order.emplace_back(s.record.id, row);
        RC_ASSERT(seen.insert(order.back()).second);
      }
    }
    RC_ASSERT(static_cast<int64_t>(seen.size()) == loader.items_per_epoch());
    const bool sorted = std::is_sorted(order.begin(), order.end());
    RC_ASSERT(sorted == !options.shuffle || order.size() < 8);
  }));
}

TEST(PairLoader, SequencesArePaddedAndAligned) {
  const PairSetInfo info = small_info();
  for (bool left : {false, true}) {
    PairLoaderOptions options;
    options.unit = LoadUnit::kSequences;
    options.batch_size = 7;
    options.pad_left = left;
    PairLoader loader = make_loader(options);
    for (int i = 0; i < 5; ++i) {
      const auto batch = loader.next();
      const SequenceBatch& s = batch->sequences;
      ASSERT_EQ(s.target.batch(), 7);
      for (int64_t b = 0; b < 7; ++b) {
        const auto want = make_sample(s.records[static_cast<size_t>(b)].id, info);
        const int64_t n = want.target_keys.size(0), from = left ? s.target.tokens() - n : 0;
        EXPECT_TRUE(at::equal(s.target.keys().select(1, b).narrow(2, from, n),
                              want.target_keys.permute({1, 2, 0, 3})));
        const at::Tensor mask = s.target.mask();
        EXPECT_TRUE(!mask.defined() || mask[b].sum().item<int64_t>() == n);
        for (int64_t t = 0; t < n; ++t) {
          const int64_t aligned = s.alignment[b][from + t].item<int64_t>();
          EXPECT_TRUE(at::equal(s.source.keys().select(1, b).select(2, aligned),
                                want.source_keys[want.record.alignment[static_cast<size_t>(t)]]));
        }
      }
    }
  }
}

TEST(PairLoader, AStateOfOtherOptionsIsRefusedByName) {
  PairLoaderOptions options;
  options.batch_size = 8;
  PairLoader a = make_loader(options);
  options.seed = 5;
  PairLoader b = make_loader(options);
  try {
    b.restore(a.state());
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find("another seed"), std::string::npos) << e.what();
  }
  options.batch_size = 100000;
  EXPECT_THROW(make_loader(options), Error);
}

}  // namespace
}  // namespace kvlingua
