// PairShard: one HDF5 file of paired samples (schema: datasets/README.md).
//
// ShardWriter fills one file from batches of encoded samples; ShardFile reads one back. Neither
// knows where the file stands in a pair set, nor about manifests: pair_writer.h and pair_reader.h
// do.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "datasets/pairs/pair_codec.h"
#include "datasets/pairs/pair_schema.h"

namespace kvlingua {

enum class Side { kSource, kTarget };
std::string to_string(Side side);

// One model's view of a sample. Token indices count within the span.
struct SampleSide {
  std::vector<int32_t> ids;           // every token of the span
  std::vector<int32_t> row_token;     // tokens whose cache entries are stored, ascending
  std::vector<int32_t> row_position;  // where the model saw each of them: prefix tokens + token
};

// A sample without its tensors.
struct SampleRecord {
  int64_t id = 0;        // its number in the plan: 0, 1, 2 ... over the whole pair set
  int64_t document = 0;  // its record in the corpus
  SampleUse use = SampleUse::kTrain;
  std::string text;  // the span
  SampleSide source, target;
  std::vector<int32_t> alignment;          // [target tokens] source token of each target token
  std::vector<int32_t> target_source_row;  // [target rows] index into this sample's source rows
  double alignment_covered = 1.0;
};

// Rows of one side, one after the other, on the CPU in storage type.
struct SideRows {
  StoredRows rows;
  // Target only: [R, L, query_heads, D], un-rotated queries, outputs before o_proj; or undefined.
  at::Tensor queries, attention_outputs;
};

// Samples and their rows, one after the other, on the CPU in storage type.
struct EncodedBatch {
  std::vector<SampleRecord> samples;
  StoredRows source, target;  // rows of all samples, concatenated
  at::Tensor target_queries;  // [target rows, L, query_heads, D], un-rotated; or undefined
  at::Tensor target_attention_outputs;  // the same shape, before o_proj; or undefined
  nlohmann::json quantisation;          // measured errors of this batch, when they were measured
};

struct ShardSizes {
  int64_t source_rows = 0, target_rows = 0;
};

class ShardWriter {
 public:
  // `expected`: the numbers of rows that will come, exactly.
  ShardWriter(const std::filesystem::path& path, int64_t index, const PairSetInfo& info,
              const ShardSizes& expected);
  ~ShardWriter();
  // Throws Error: kDiskFull, kFailed; kInput naming the sample when a number is NaN or infinite.
  void append(const EncodedBatch& batch);
  // The same in pieces, so that rows are written while the processor's cache still holds them: all
  // rows of `samples`, in order and side by side as the caller likes, then the samples. These rows
  // follow the first `before` of them.
  void append_rows(Side side, const SideRows& rows, const std::vector<SampleRecord>& samples,
                   int64_t before = 0);
  void append_samples(const std::vector<SampleRecord>& samples);
  // Writes what is ragged, closes the file. What was written is then complete but not yet synced to
  // disk.
  ShardEntry finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What is known of a shard's samples without reading caches.
struct ShardIndex {
  std::vector<int64_t> id, document;
  std::vector<SampleUse> use;
  std::vector<int64_t> source_token_offsets, target_token_offsets;  // [samples + 1]
  std::vector<int64_t> source_row_offsets, target_row_offsets;
  std::vector<int64_t> text_offsets;
  int64_t samples() const { return static_cast<int64_t>(id.size()); }
};

class ShardFile {
 public:
  // The caller has verified the file's hash. Throws Error (kCorrupt) when the schema does not hold
  // or any index (offsets, tokens, rows, positions, alignment) points at nothing: what reads a
  // shard need not look again.
  ShardFile(const std::filesystem::path& path, const PairSetInfo& info);
  ~ShardFile();

  const ShardIndex& index() const;
  int64_t number() const;  // as the file says
  const std::filesystem::path& path() const;
  // Everything but tensors of one sample.
  SampleRecord sample(int64_t i) const;
  // Rows [begin, end) of one side, in storage type. Checks for NaN and infinity when asked: throws
  // Error (kCorrupt) naming the file and the sample. Thread-safe (HDF5 serialises).
  StoredRows rows(Side side, int64_t begin, int64_t end, bool check_finite = true) const;
  // The same into rows [at, at + end - begin) of contiguous tensors.
  void rows_into(Side side, int64_t begin, int64_t end, StoredRows& out, int64_t at,
                 bool check_finite = true) const;
  // Of target rows [begin, end): index of the aligned source row, counted in the whole shard.
  std::vector<int64_t> target_source_rows(int64_t begin, int64_t end) const;
  std::vector<int32_t> row_positions(Side side, int64_t begin, int64_t end) const;
  // [end - begin, L, query_heads, D]; undefined when the set has none.
  at::Tensor target_queries(int64_t begin, int64_t end) const;
  at::Tensor target_attention_outputs(int64_t begin, int64_t end) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
