// In what order a pair set is read: blocks, groups and the permutation inside a group. No I/O, no
// threads.
//
// Everything is a pure function of (seed, epoch) and the set, so a position in the stream is a
// number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvlingua {

// Neighbouring samples of one shard, read together.
struct PairBlock {
  int64_t shard = 0;
  int64_t first = 0, last = 0;  // samples [first, last) of the shard
  int64_t items = 0;            // rows or sequences it contributes
  int64_t bytes = 0;
};

// Consecutive blocks of an epoch's order that are in memory together.
struct PairGroup {
  std::vector<int64_t> blocks;
  int64_t first_item = 0;  // of the epoch's stream
  int64_t items = 0;
  uint64_t seed = 0;  // of the permutation inside
};

struct OrderOptions {
  bool shuffle = true;
  uint64_t seed = 0;
  int64_t group_bytes = 0;
};

// The groups of one epoch, in order. A group holds at least one block, and at most group_bytes
// where blocks allow.
std::vector<PairGroup> epoch_groups(const std::vector<PairBlock>& blocks,
                                    const OrderOptions& options, int64_t epoch);
// Which of a group's items (numbered as its blocks list them) stand at its places 0 .. items - 1.
std::vector<int64_t> group_permutation(const PairGroup& group, bool shuffle);
// Index of the group that holds an item of the epoch's stream.
size_t group_of(const std::vector<PairGroup>& groups, int64_t item);

}  // namespace kvlingua
