// From token rows to stored rows: one model reads a batch of spans, and the kept entries are taken
// out of its cache.
//
// Shapes: a cache is [L, B, H, T, D]; rows are [R, L, H, D], sample after sample. Keys lose their
// rotation on the way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "datasets/pairs/pair_codec.h"
#include "datasets/pairs/pair_shard.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

struct CaptureOptions {
  bool queries = false, attention_outputs = false;
};

// Reads prefix ⊕ span for each sample, padded on the right.
PrefillResult prefill_spans(const CausalLM& model, const std::vector<int64_t>& prefix,
                            const std::vector<SampleRecord>& samples, Side side,
                            const CaptureOptions& capture = {});

struct TakenRows : SideRows {
  StorageError key_error, value_error;  // when measured
};

// The kept entries of a result, encoded, on its device. Equal, before encoding, to the same entries
// of result.cache.unrotated().
class RowTaker {
 public:
  // Refers to `result`, which stays the caller's.
  RowTaker(const PrefillResult& result, int64_t prefix_tokens,
           const std::vector<SampleRecord>& samples, Side side, StorageType storage);
  int64_t rows() const { return index_.size(0); }
  int64_t row_bytes() const;  // of keys, or of values, as stored
  // Rows [begin, end).
  TakenRows take(int64_t begin, int64_t end, bool measure = false) const;
  TakenRows take_all(bool measure) const { return take(0, rows(), measure); }

 private:
  const PrefillResult& result_;
  StorageType storage_;
  at::Tensor index_;      // [rows] on the CPU: b * T + t
  at::Tensor cos_, sin_;  // [rows, D/2], or undefined
};

// Copies from a device to page-locked host memory on a stream of its own, while the device goes on
// computing.
class HostStaging {
 public:
  explicit HostStaging(at::Device device);
  ~HostStaging();
  bool needed() const;  // false on the CPU: tensors are used as they are
  // Starts copying every tensor of `rows`; the returned function waits for it. The tensors must not
  // be touched before.
  std::function<void()> start(TakenRows& rows);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
