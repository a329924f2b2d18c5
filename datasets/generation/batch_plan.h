// BatchPlan: which documents become samples, in which batches and shards. Made from the corpus
// alone, before any model runs.
//
// Documents are taken in shuffled order until a budget is reached; within a window of some batches
// they are sorted by length, so that a batch holds little padding; batches fill shards up to
// data.shard_bytes. So an interrupted run, or one with another number of ranks, forms the same
// batches, and equal batches give equal caches. Memory: 32 bytes a sample.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "datasets/corpus/corpus.h"
#include "datasets/generation/sample_builder.h"

namespace kvlingua {

struct PlannedSample {
  int64_t document = 0;
  int32_t source_tokens = 0, target_tokens = 0;  // of the span
  int32_t source_rows = 0, target_rows = 0;
};

struct PlannedShard {
  int64_t first_batch = 0, last_batch = 0;  // [first, last)
  int64_t source_rows = 0, target_rows = 0;
};

struct BatchPlan {
  std::vector<PlannedSample> samples;     // a sample's id is its number here
  std::vector<int64_t> batch_offsets{0};  // batch b holds samples [b, b + 1)
  std::vector<PlannedShard> shards;
  int64_t source_tokens = 0, target_tokens = 0, source_rows = 0, target_rows = 0;
  int64_t padded_tokens = 0;  // that both models read together, prefixes and padding included
  int64_t control_tokens = 0, documents_with_control = 0;  // written in documents themselves
  std::string control_place;                               // the first of them, file:line
  int64_t skipped_documents = 0;                           // malformed, with skip_bad
  int64_t left_out = 0;                                    // too short, or of the other split

  int64_t batches() const { return static_cast<int64_t>(batch_offsets.size()) - 1; }
};

struct PlanBudget {
  int64_t max_samples = 0;  // 0: no limit
  int64_t source_row_bytes = 0, target_row_bytes = 0;
};

// Throws Error (kInput): a malformed record unless data.skip_bad, a sample too long for a model,
// nothing left to store. `progress(documents)` is called now and then; it may throw to stop.
BatchPlan plan_batches(const Corpus& corpus, const SampleBuilder& builder, const DataOptions& data,
                       uint64_t seed, const PlanBudget& budget,
                       const std::function<void(int64_t)>& progress = {});

}  // namespace kvlingua
