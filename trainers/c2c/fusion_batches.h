// Which items stand in which batch: shuffled by (seed, epoch), but items of a batch are of like
// length, so that little is padding (bucketing: Vaswani et al. 2017 batch so too), and of one
// pattern of sections. Every item once an epoch; the same number of batches in every epoch.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace kvlingua {

class FusionBatches {
 public:
  struct Item {
    int64_t length = 0, pattern = 0;
  };
  // in_order: no shuffling and no bucketing, for comparisons with other programs.
  FusionBatches(std::vector<Item> items, int64_t batch_size, uint64_t seed, bool in_order = false);

  int64_t per_epoch() const { return per_epoch_; }
  // Batches that next() has given since the beginning.
  int64_t given() const { return epoch_ * per_epoch_ + position_; }
  // Up to `most` batches, all of one epoch; at least one.
  std::vector<std::vector<int64_t>> next(int64_t most);

  nlohmann::json state() const;
  // Throws Error (kInput) when items or seed are others.
  void restore(const nlohmann::json& state);
  // After so many batches of a run from the beginning.
  void seek(int64_t batches);

 private:
  void order_epoch();

  std::vector<Item> items_;
  int64_t batch_size_;
  uint64_t seed_;
  bool in_order_;
  int64_t per_epoch_ = 0, epoch_ = 0, position_ = 0, ordered_ = -1;
  std::vector<std::vector<int64_t>> batches_;
};

}  // namespace kvlingua
