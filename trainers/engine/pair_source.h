// Pair sets as batch sources: rows for ridge and regression, whole sequences for validation and for
// the attention-output term.
#pragma once

#include <filesystem>
#include <memory>

#include "datasets/loading/pair_loader.h"
#include "trainers/engine/batch_source.h"

namespace kvlingua {

struct PairSourceOptions {
  LoadUnit unit = LoadUnit::kRows;
  LoadUse use = LoadUse::kTrain;
  int64_t batch_size = 1024;
  bool shuffle = true;
  uint64_t seed = 0;
  int64_t epochs = 0;  // 0: endless
  at::Device device = at::kCPU;
  int64_t workers = 1;             // threads that make batches ahead (PairLoaderOptions)
  PreviousTokens previous_tokens;  // of source rows: rows_of()
  bool shuffle_pairs = false;      // a control: source rows are dealt to other targets of the batch
  // Which share of every batch: batch_size is that of all processes together, and must be a
  // multiple of their number.
  int64_t rank = 0, world = 1;
};

// Sequences give token ids, a mask and, when the set holds queries, an AttentionContext.
std::unique_ptr<BatchSource> make_pair_source(const std::filesystem::path& dataset,
                                              const PairSourceOptions& options);

}  // namespace kvlingua
