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

#include "datasets/pair_codec.h"
#include "datasets/pair_shard.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

struct CaptureOptions {
  bool queries = false, attention_outputs = false;
};

// Reads prefix ⊕ span for each sample, padded on the right.
PrefillResult prefill_spans(const CausalLM& model, const std::vector<int64_t>& prefix,
                            const std::vector<SampleRecord>& samples, Side side,
                            const CaptureOptions& capture = {});

struct TakenRows {
  StoredRows rows;
  at::Tensor queries,
      attention_outputs;                // [R, L, query_heads, D], un-rotated queries; or undefined
  StorageError key_error, value_error;  // when measured
};
// The kept entries, encoded, on the device of the result. Equal, before encoding, to the same
// entries of result.cache.unrotated().
TakenRows take_rows(const PrefillResult& result, int64_t prefix_tokens,
                    const std::vector<SampleRecord>& samples, Side side, StorageType storage,
                    bool measure);

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
