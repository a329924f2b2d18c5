// BatchSource: where a trainer gets its rows from. Seeded, and resumable from an opaque JSON.
//
// One row is one target token with the source token aligned to it, all layers side by side, keys
// un-rotated. MemorySource holds rows in memory (tests, small sets); pair_source.h reads pair sets.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "kvlingua/cache/rope.h"
#include "kvlingua/projector/projector.h"
#include "trainers/engine/index_stream.h"

namespace kvlingua {

// What is needed to run the target's attention over a batch of whole sequences; rows are then
// batch-major [B * T], padding included.
struct AttentionContext {
  at::Tensor queries_LBHTD;  // the target's, un-rotated
  at::Tensor positions_BT;
  at::Tensor mask_BT;  // false: padding; undefined: none
  RopeSpec rope;
};

struct TrainBatch {
  CacheRows source, target;
  std::vector<int64_t> sample_ids;  // [N]: which sample a row is of
  at::Tensor target_tokens;         // [N] int64 token ids; undefined when not known
  at::Tensor row_mask;              // [N] bool: rows that count; undefined: all
  std::optional<AttentionContext> attention;
  int64_t rows() const { return target.rows(); }
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The next batch; none at the end of a source that ends.
  virtual std::optional<TrainBatch> next() = 0;
  virtual int64_t batches_per_epoch() const = 0;
  // Continues exactly where state() was taken. Throws Error (kInput) when the data are others.
  virtual nlohmann::json state() const = 0;
  virtual void restore(const nlohmann::json& state) = 0;
};

// Rows in memory, permuted anew every epoch by (seed, epoch).
class MemorySource : public BatchSource {
 public:
  struct Options {
    int64_t batch_size = 64;
    uint64_t seed = 0;
    bool shuffle = true;
    int64_t epochs = 0;  // 0: endless; the last batch of a finite source may be short
  };
  MemorySource(CacheRows source, CacheRows target, const Options& options,
               at::Tensor target_tokens = {});
  std::optional<TrainBatch> next() override;
  int64_t batches_per_epoch() const override;
  nlohmann::json state() const override { return stream_.state(); }
  void restore(const nlohmann::json& state) override { stream_.restore(state); }

 private:
  CacheRows source_, target_;
  Options options_;
  at::Tensor target_tokens_;
  IndexStream stream_;
};

}  // namespace kvlingua
