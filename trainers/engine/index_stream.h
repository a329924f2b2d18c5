// IndexStream: an endless order of n items, permuted anew every epoch by (seed, epoch); its place
// is two numbers.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace kvlingua {

class IndexStream {
 public:
  // epochs 0: endless.
  IndexStream(int64_t items, uint64_t seed, bool shuffle = true, int64_t epochs = 0);
  // The next `count` items; runs over the end of an epoch, so that batches keep their size. Fewer
  // (or none) at the end of a finite stream.
  std::vector<int64_t> next(int64_t count);
  int64_t items() const { return items_; }

  nlohmann::json state() const;
  // Throws Error: kInput when items or seed are others, kCorrupt for a place that it has not.
  void restore(const nlohmann::json& state);

 private:
  int64_t items_;
  uint64_t seed_;
  bool shuffle_;
  int64_t epochs_;
  int64_t epoch_ = 0, position_ = 0, ordered_epoch_ = -1;
  std::vector<int64_t> order_;
};

// A stream's place as a checkpoint has it.
struct StreamPosition {
  int64_t epoch = 0, position = 0;
};

// {"epoch", "position"} of a stream of so many items an epoch. Throws Error (kCorrupt) for anything
// that is no place of it.
StreamPosition stream_position(const nlohmann::json& state, int64_t length);

}  // namespace kvlingua
