// LoadedGroup: the samples of one group of blocks in memory, in storage type; items are gathered
// from it into batches.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "datasets/loading/pair_loader.h"
#include "datasets/loading/pair_order.h"
#include "datasets/pairs/pair_reader.h"

namespace kvlingua {

// Whether a sample takes part in a use.
inline bool takes_part(SampleUse sample, LoadUse use) {
  return use == LoadUse::kAll || (use == LoadUse::kTrain) == (sample == SampleUse::kTrain);
}

// Cuts the whole set into blocks of about block_bytes. Opens (and verifies) every shard.
std::vector<PairBlock> make_blocks(const PairReader& reader, LoadUnit unit, LoadUse use,
                                   int64_t block_bytes);

// Where one sample of a group stands.
struct GroupSample {
  int64_t shard = 0, local = 0;  // in the set
  int64_t source_begin = 0, source_end = 0, target_begin = 0,
          target_end = 0;  // rows in the group's tensors
};

struct LoadedGroup {
  StoredRows source, target;
  at::Tensor queries, attention_outputs;  // of the target's rows, or undefined
  std::vector<int64_t> source_row;        // [target rows] aligned row of `source`
  std::vector<int32_t> source_positions, target_positions;
  std::vector<GroupSample> samples;  // those taking part
  std::vector<int64_t> row_of_item,
      sample_of_item;          // unit rows: target row, sample; unit sequences: sample only
  std::vector<int64_t> order;  // item at each place
  int64_t first_item = 0;      // place 0 in the epoch's stream
};
std::shared_ptr<const LoadedGroup> load_group(const PairReader& reader,
                                              const std::vector<PairBlock>& blocks,
                                              const PairGroup& group,
                                              const PairLoaderOptions& options);

// One item of a batch: a group and a place in it.
struct ItemRef {
  const LoadedGroup* group;
  int64_t item;  // number of the item in the group (order already applied)
};
// `pinned`: gather into page-locked memory. Tensors stay on the CPU, caches in storage type.
struct GatheredRows {
  StoredRows source, target;
  StoredRows previous;  // [N * previous tokens, their layers, Hs, Ds]; zeros before the sample
  RowBatch rest;        // positions, ids, queries and outputs
};
GatheredRows gather_rows(const PairReader& reader, const std::vector<ItemRef>& items, bool pinned,
                         const PreviousTokens& before = {});
struct GatheredSequences {
  StoredRows source, target;                     // [B * T, L, H, D], padding zero
  int64_t source_tokens = 0, target_tokens = 0;  // T of each side
  SequenceBatch rest;  // alignment, records; queries and outputs still [B * T, L, heads, D]
  at::Tensor source_positions, source_mask, target_positions, target_mask;
};
GatheredSequences gather_sequences(const PairReader& reader, const std::vector<ItemRef>& items,
                                   bool pinned, bool pad_left);

}  // namespace kvlingua
