// Validation: how well a projector predicts held-out rows, beside two baselines that know nothing
// of the source.
//
//   R2      1 - error / variance about the *training* mean, each channel in units of its training
//           deviation. Always centred: uncentred R2 flatters, since keys have large means.
//   cosine  of un-rotated vectors per head; flatters too, so it stands beside the baselines' cosine
//   mean        the training mean of each channel (its R2 is 0 by definition)
//   token_mean  the training mean of each channel over tokens of the same identity
// None of these predicts behaviour; evaluation gates on that alone.
#pragma once

#include <map>
#include <vector>

#include "checkpoints/stage_result.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/statistics.h"
#include "trainers/engine/batch_source.h"

namespace kvlingua {

class Validation {
 public:
  // `rows`: held-out batches, kept. Statistics are the training set's.
  Validation(std::vector<TrainBatch> rows, const ChannelStatistics& target_statistics);

  // Fits the token-identity baseline on training rows (only tokens that validation holds are kept).
  void fit_token_means(const TrainBatch& training);

  ValidationNumbers run(const Projector& projector) const;
  int64_t rows() const;

 private:
  struct Scores;
  template <class Predict>
  Scores score(const Predict& predict) const;
  CacheRows token_means(const TrainBatch& batch) const;

  std::vector<TrainBatch> batches_;
  ChannelStatistics statistics_;
  struct TokenSum {
    int64_t count = 0;
    at::Tensor sum;  // [2, L, H, D]
  };
  std::map<int64_t, TokenSum> tokens_;
};

}  // namespace kvlingua
