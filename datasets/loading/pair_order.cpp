#include "datasets/loading/pair_order.h"

#include <algorithm>
#include <numeric>

#include "kvlingua/base/random.h"

namespace kvlingua {

std::vector<PairGroup> epoch_groups(const std::vector<PairBlock>& blocks,
                                    const OrderOptions& options, int64_t epoch) {
  const uint64_t seed = mix(options.seed, static_cast<uint64_t>(epoch));
  std::vector<int64_t> order(blocks.size());
  std::iota(order.begin(), order.end(), 0);
  if (options.shuffle) Random(seed).shuffle(order);
  std::vector<PairGroup> groups;
  int64_t bytes = 0, item = 0;
  for (int64_t number : order) {
    const PairBlock& block = blocks[static_cast<size_t>(number)];
    if (block.items == 0) continue;
    if (groups.empty() || bytes + block.bytes > options.group_bytes) {
      groups.push_back({.first_item = item, .seed = mix(seed, groups.size() + 1)});
      bytes = 0;
    }
    groups.back().blocks.push_back(number);
    groups.back().items += block.items;
    bytes += block.bytes;
    item += block.items;
  }
  return groups;
}

std::vector<int64_t> group_permutation(const PairGroup& group, bool shuffle) {
  if (shuffle) return Random(group.seed).permutation(group.items);
  std::vector<int64_t> order(static_cast<size_t>(group.items));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

size_t group_of(const std::vector<PairGroup>& groups, int64_t item) {
  const auto after = std::upper_bound(
      groups.begin(), groups.end(), item,
      [](int64_t value, const PairGroup& group) { return value < group.first_item; });
  return static_cast<size_t>(after - groups.begin()) - 1;
}

}  // namespace kvlingua
