// PairReader: random access to the samples of a pair set, whatever number of shards they stand in.
//
// Samples are numbered 0 .. samples() - 1 in the order of the plan. A shard's sha256 is compared
// with the manifest before HDF5 opens it, once per reader. Memory: the index of each opened shard
// (some 60 bytes a sample) and what is asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_shard.h"
#include "kvlingua/cache/kv_cache.h"

namespace kvlingua {

// One sample whole. Caches have batch 1, un-rotated keys, positions as the models saw them (after
// their own prefix), and hold the stored rows: every token of the span unless the set was made with
// tokens_per_sample.
struct PairSample {
  SampleRecord record;
  KvCache source, target;
  at::Tensor target_queries,
      target_attention_outputs;  // [L, 1, query_heads, rows, D]; or undefined
};

struct PairReaderOptions {
  bool allow_incomplete = false;  // read what an unfinished run has published
};

class PairReader {
 public:
  // Throws Error: kInput (no pair set, unfinished set), kCorrupt (damaged manifest).
  static PairReader open(const std::filesystem::path& directory,
                         const PairReaderOptions& options = {});
  PairReader(PairReader&&) noexcept;
  PairReader& operator=(PairReader&&) noexcept;
  ~PairReader();

  const std::filesystem::path& directory() const;
  const PairSetInfo& info() const;
  const PairManifest& manifest() const;
  int64_t samples() const;
  int64_t shards() const;  // published; numbered 0 .. in the order of their index
  // Opens (and verifies) a shard on first use. Throws Error (kCorrupt) naming the file.
  // Thread-safe.
  const ShardFile& shard(int64_t number) const;
  // `dtype`: of the returned caches.
  PairSample sample(int64_t i, at::ScalarType dtype = at::ScalarType::Float) const;
  SampleRecord record(int64_t i) const;

 private:
  struct Impl;
  explicit PairReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
