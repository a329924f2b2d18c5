// PairLoader: an endless, seeded, resumable stream of batches from a pair set.
//
// Two units: *rows* (aligned token rows, for regression) and *sequences* (whole samples, for
// distillation and evaluation). Order: the set is cut into blocks (runs of neighbouring samples),
// blocks are permuted per epoch over all shards, as many as fit the buffer form a group, and rows
// (or samples) are permuted inside the group. So memory is bounded whatever the set's size, disk
// reads are long, and the whole order is a pure function of (seed, epoch): a position is two
// numbers. Ranks take batches in turn: the batches of step s are numbers s * world ... s * world +
// world - 1, so the global stream does not depend on the number of ranks.
//
// One background thread reads groups ahead and `workers` threads gather batches from them; without
// workers next() does both itself. The stream is the same. On CUDA, batches go through pinned
// memory on a stream of their own. Thread use: one consumer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "datasets/pairs/pair_reader.h"
#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/cache/previous_tokens.h"

namespace kvlingua {

enum class LoadUnit { kRows, kSequences };
enum class LoadUse { kTrain, kValidation, kAll };

struct PairLoaderOptions {
  LoadUnit unit = LoadUnit::kRows;
  LoadUse use = LoadUse::kTrain;
  int64_t batch_size = 4096;  // rows or sequences of one batch of one rank
  bool shuffle = true;
  uint64_t seed = 0;
  int64_t rank = 0, world = 1;
  int64_t epochs = 0;  // 0: endless
  // False: the last batch of an epoch may be short (and on some ranks missing).
  bool drop_last = true;
  int64_t buffer_bytes = int64_t{256} << 20;  // what is held in memory at most, about
  int64_t workers = 1;                        // threads that make batches; 0: next() makes them
  int64_t prefetch = 2;                       // batches made ahead, at least one a worker
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::ScalarType::Float;
  bool pad_left = false;  // sequences: where padding goes
  // rows: stored source rows before the aligned one that come with it, as layers of their own
  // (rows_of()).
  PreviousTokens previous_tokens;
};

// Aligned rows: row n of the source tensors is the entry that row n of the target takes. Keys
// un-rotated.
struct RowBatch {
  at::Tensor source_keys, source_values;          // [N, Ls + previous, Hs, Ds]
  at::Tensor target_keys, target_values;          // [N, Lt, Ht, Dt]
  at::Tensor source_positions, target_positions;  // [N] int64, where each stood
  at::Tensor target_queries,
      target_attention_outputs;     // [N, Lt, query_heads, Dt]; undefined unless the set has them
  std::vector<int64_t> sample_ids;  // [N]
  int64_t size() const { return target_keys.size(0); }
};

// Whole samples, padded to the longest. Caches: batch B, un-rotated keys, masks where padded.
struct SequenceBatch {
  KvCache source, target;
  // [B, target rows] int64: index along the source cache's tokens; 0 at padding (see
  // target.mask()).
  at::Tensor alignment;
  at::Tensor target_queries, target_attention_outputs;  // [L, B, query_heads, T, D]; or undefined
  std::vector<SampleRecord> records;                    // text, ids, alignment over tokens
};

struct PairBatch {
  int64_t epoch = 0;
  int64_t index = 0;        // of this rank's batches in this epoch
  RowBatch rows;            // unit kRows
  SequenceBatch sequences;  // unit kSequences
};

class PairLoader {
 public:
  // Verifies the hashes of all shards. Throws Error: kInput when the set holds fewer than one batch
  // per rank, kCorrupt.
  PairLoader(PairReader reader, const PairLoaderOptions& options);
  ~PairLoader();
  PairLoader(const PairLoader&) = delete;
  PairLoader& operator=(const PairLoader&) = delete;

  const PairSetInfo& info() const;
  int64_t batches_per_epoch() const;  // of this rank
  int64_t items_per_epoch() const;    // rows or sequences of the whole use, all ranks
  // The next batch; none after `epochs`. Throws Error (kCorrupt) naming file and sample for a NaN.
  std::optional<PairBatch> next();
  // Where the stream stands: an opaque JSON for a checkpoint. Counts what next() has returned, not
  // what was read ahead.
  nlohmann::json state() const;
  // Continues there: the following batches equal, bit for bit, those of a loader that never
  // stopped. The number of ranks may have changed if batch_size * world did not. Throws Error
  // (kInput) naming the field when set or options are others.
  void restore(const nlohmann::json& state);
  // Seconds the consumer has waited for batches so far.
  double wait_seconds() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
