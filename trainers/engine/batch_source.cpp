#include "trainers/engine/batch_source.h"

#include <ATen/ATen.h>

namespace kvlingua {

MemorySource::MemorySource(CacheRows source, CacheRows target, const Options& options,
                           at::Tensor target_tokens)
    : source_(std::move(source)),
      target_(std::move(target)),
      options_(options),
      target_tokens_(std::move(target_tokens)),
      stream_(source_.rows(), options.seed, options.shuffle, options.epochs) {}

int64_t MemorySource::batches_per_epoch() const {
  return (source_.rows() + options_.batch_size - 1) / options_.batch_size;
}

std::optional<TrainBatch> MemorySource::next() {
  const std::vector<int64_t> picked = stream_.next(options_.batch_size);
  if (picked.empty()) return std::nullopt;
  const at::Tensor index = at::tensor(picked, at::kLong).to(source_.keys_NLHD.device());
  const auto select = [&](const CacheRows& rows) {
    return CacheRows{rows.keys_NLHD.index_select(0, index),
                     rows.values_NLHD.index_select(0, index)};
  };
  TrainBatch batch{.source = select(source_), .target = select(target_), .sample_ids = picked};
  if (target_tokens_.defined()) batch.target_tokens = target_tokens_.index_select(0, index);
  return batch;
}

}  // namespace kvlingua
