#include "datasets/loading/pair_group.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

namespace kvlingua {
namespace {

// Samples of a block that are read together. Training takes nearly all samples: one run; validation
// takes few.
std::vector<std::pair<int64_t, int64_t>> runs_of(const ShardIndex& index, const PairBlock& block,
                                                 LoadUse use) {
  if (use != LoadUse::kValidation) return {{block.first, block.last}};
  std::vector<std::pair<int64_t, int64_t>> runs;
  for (int64_t i = block.first; i < block.last; ++i) {
    if (!takes_part(index.use[static_cast<size_t>(i)], use)) continue;
    if (!runs.empty() && runs.back().second == i) {
      ++runs.back().second;
    } else {
      runs.emplace_back(i, i + 1);
    }
  }
  return runs;
}

struct RowCounts {
  int64_t source = 0, target = 0;
};

StoredRows empty_rows(const KvShape& shape, StorageType storage, int64_t rows) {
  const auto options = at::TensorOptions().dtype(storage_scalar_type(storage));
  StoredRows out;
  out.keys = at::empty({rows, shape.layers, shape.kv_heads, shape.head_dim}, options);
  out.values = at::empty_like(out.keys);
  if (storage == StorageType::kInt8) {
    out.key_scales =
        at::empty({rows, shape.layers, shape.kv_heads}, at::TensorOptions().dtype(at::kFloat));
    out.value_scales = at::empty_like(out.key_scales);
  }
  return out;
}

// Copies row rows[i] of `from` to row places[i] of `to` (place i when `places` is empty).
void copy_rows(const at::Tensor& from, const std::vector<int64_t>& rows, at::Tensor& to,
               const std::vector<int64_t>& places = {}) {
  const auto bytes =
      static_cast<size_t>(from.numel() / std::max<int64_t>(from.size(0), 1)) * from.element_size();
  const char* source = static_cast<const char*>(from.const_data_ptr());
  char* target = static_cast<char*>(to.mutable_data_ptr());
  const auto step = static_cast<size_t>(from.stride(0)) * from.element_size();
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t place = places.empty() ? i : static_cast<size_t>(places[i]);
    std::memcpy(target + place * bytes, source + static_cast<size_t>(rows[i]) * step, bytes);
  }
}

at::Tensor room_like(const at::Tensor& rows, int64_t count, bool pinned, bool zero) {
  std::vector<int64_t> sizes = rows.sizes().vec();
  sizes[0] = count;
  const auto options = rows.options().pinned_memory(pinned);
  return zero ? at::zeros(sizes, options) : at::empty(sizes, options);
}

// Rows of several groups (a batch may straddle two) into one tensor. `member` picks the tensor of a
// group.
struct RowPick {
  const LoadedGroup* group;
  std::vector<int64_t> rows, places;
};

template <class Member>
at::Tensor pick_rows(const std::vector<RowPick>& picks, int64_t count, bool pinned, bool zero,
                     Member member) {
  if (picks.empty() || !member(*picks.front().group).defined()) return {};
  at::Tensor out = room_like(member(*picks.front().group), count, pinned, zero);
  for (const RowPick& pick : picks) copy_rows(member(*pick.group), pick.rows, out, pick.places);
  return out;
}

StoredRows pick_side(const std::vector<RowPick>& picks, int64_t count, bool pinned, bool zero,
                     StoredRows LoadedGroup::*side) {
  StoredRows out;
  out.keys =
      pick_rows(picks, count, pinned, zero, [&](const LoadedGroup& g) { return (g.*side).keys; });
  out.values =
      pick_rows(picks, count, pinned, zero, [&](const LoadedGroup& g) { return (g.*side).values; });
  out.key_scales = pick_rows(picks, count, pinned, zero,
                             [&](const LoadedGroup& g) { return (g.*side).key_scales; });
  out.value_scales = pick_rows(picks, count, pinned, zero,
                               [&](const LoadedGroup& g) { return (g.*side).value_scales; });
  return out;
}

void add_pick(std::vector<RowPick>& picks, const LoadedGroup* group, int64_t row, int64_t place) {
  if (picks.empty() || picks.back().group != group) picks.push_back({group, {}, {}});
  picks.back().rows.push_back(row);
  picks.back().places.push_back(place);
}

void read_run(const ShardFile& file, int64_t shard, std::pair<int64_t, int64_t> run, LoadUse use,
              LoadUnit unit, LoadedGroup& g, RowCounts& done) {
  const ShardIndex& x = file.index();
  const auto a = static_cast<size_t>(run.first), b = static_cast<size_t>(run.second);
  const int64_t s0 = x.source_row_offsets[a], s1 = x.source_row_offsets[b];
  const int64_t t0 = x.target_row_offsets[a], t1 = x.target_row_offsets[b];
  file.rows_into(Side::kSource, s0, s1, g.source, done.source);
  file.rows_into(Side::kTarget, t0, t1, g.target, done.target);
  for (int64_t row : file.target_source_rows(t0, t1))
    g.source_row.push_back(row - s0 + done.source);
  const auto source_positions = file.row_positions(Side::kSource, s0, s1),
             target_positions = file.row_positions(Side::kTarget, t0, t1);
  g.source_positions.insert(g.source_positions.end(), source_positions.begin(),
                            source_positions.end());
  g.target_positions.insert(g.target_positions.end(), target_positions.begin(),
                            target_positions.end());
  if (g.queries.defined())
    g.queries.narrow(0, done.target, t1 - t0).copy_(file.target_queries(t0, t1));
  if (g.attention_outputs.defined())
    g.attention_outputs.narrow(0, done.target, t1 - t0)
        .copy_(file.target_attention_outputs(t0, t1));
  for (size_t i = a; i < b; ++i) {
    if (!takes_part(x.use[i], use)) continue;
    GroupSample sample{shard,
                       static_cast<int64_t>(i),
                       x.source_row_offsets[i] - s0 + done.source,
                       x.source_row_offsets[i + 1] - s0 + done.source,
                       x.target_row_offsets[i] - t0 + done.target,
                       x.target_row_offsets[i + 1] - t0 + done.target};
    const auto number = static_cast<int64_t>(g.samples.size());
    if (unit == LoadUnit::kSequences) g.sample_of_item.push_back(number);
    for (int64_t row = sample.target_begin; unit == LoadUnit::kRows && row < sample.target_end;
         ++row) {
      g.row_of_item.push_back(row);
      g.sample_of_item.push_back(number);
    }
    g.samples.push_back(sample);
  }
  done.source += s1 - s0;
  done.target += t1 - t0;
}

at::Tensor long_tensor(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong));
}

}  // namespace

std::vector<PairBlock> make_blocks(const PairReader& reader, LoadUnit unit, LoadUse use,
                                   int64_t block_bytes) {
  const int64_t source_bytes = reader.info().source_row_bytes();
  const int64_t target_bytes = reader.info().target_row_bytes() + reader.info().query_row_bytes();
  std::vector<PairBlock> blocks;
  for (int64_t number = 0; number < reader.shards(); ++number) {
    const ShardIndex& x = reader.shard(number).index();
    PairBlock block{.shard = number};
    for (int64_t i = 0; i < x.samples(); ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t target_rows = x.target_row_offsets[at + 1] - x.target_row_offsets[at];
      block.last = i + 1;
      block.bytes += target_rows * target_bytes +
                     (x.source_row_offsets[at + 1] - x.source_row_offsets[at]) * source_bytes;
      if (takes_part(x.use[at], use)) block.items += unit == LoadUnit::kRows ? target_rows : 1;
      if (block.bytes >= block_bytes || i + 1 == x.samples()) {
        blocks.push_back(block);
        block = {.shard = number, .first = i + 1};
      }
    }
  }
  return blocks;
}

std::shared_ptr<const LoadedGroup> load_group(const PairReader& reader,
                                              const std::vector<PairBlock>& blocks,
                                              const PairGroup& group,
                                              const PairLoaderOptions& options) {
  struct Run {
    int64_t shard;
    std::pair<int64_t, int64_t> samples;
  };
  std::vector<Run> runs;
  RowCounts total;
  for (int64_t number : group.blocks) {
    const PairBlock& block = blocks[static_cast<size_t>(number)];
    const ShardIndex& x = reader.shard(block.shard).index();
    for (const auto& run : runs_of(x, block, options.use)) {
      runs.push_back({block.shard, run});
      const auto a = static_cast<size_t>(run.first), b = static_cast<size_t>(run.second);
      total.source += x.source_row_offsets[b] - x.source_row_offsets[a];
      total.target += x.target_row_offsets[b] - x.target_row_offsets[a];
    }
  }
  const PairSetInfo& info = reader.info();
  auto g = std::make_shared<LoadedGroup>();
  g->source = empty_rows(info.source.shape, info.storage, total.source);
  g->target = empty_rows(info.target.shape, info.storage, total.target);
  const StorageType query_type =
      info.storage == StorageType::kInt8 ? StorageType::kFloat16 : info.storage;
  const std::vector<int64_t> query_sizes{total.target, info.target.shape.layers,
                                         info.target.query_heads, info.target.shape.head_dim};
  const auto query_options = at::TensorOptions().dtype(storage_scalar_type(query_type));
  if (info.queries) g->queries = at::empty(query_sizes, query_options);
  if (info.attention_outputs) g->attention_outputs = at::empty(query_sizes, query_options);
  RowCounts done;
  for (const Run& run : runs) {
    read_run(reader.shard(run.shard), run.shard, run.samples, options.use, options.unit, *g, done);
  }
  g->order = group_permutation(group, options.shuffle);
  g->first_item = group.first_item;
  return g;
}

GatheredRows gather_rows(const PairReader& reader, const std::vector<ItemRef>& items, bool pinned,
                         const PreviousTokens& before) {
  std::vector<RowPick> source, target, previous;
  GatheredRows out;
  std::vector<int64_t> source_positions, target_positions;
  for (size_t i = 0; i < items.size(); ++i) {
    const LoadedGroup& g = *items[i].group;
    const auto item = static_cast<size_t>(items[i].item);
    const int64_t row = g.row_of_item[item], from = g.source_row[static_cast<size_t>(row)];
    add_pick(source, &g, from, static_cast<int64_t>(i));
    add_pick(target, &g, row, static_cast<int64_t>(i));
    source_positions.push_back(g.source_positions[static_cast<size_t>(from)]);
    target_positions.push_back(g.target_positions[static_cast<size_t>(row)]);
    const GroupSample& sample = g.samples[static_cast<size_t>(g.sample_of_item[item])];
    for (int64_t j = 1; j <= before.tokens && from - j >= sample.source_begin; ++j)
      add_pick(previous, &g, from - j, static_cast<int64_t>(i) * before.tokens + j - 1);
    out.rest.sample_ids.push_back(
        reader.shard(sample.shard).index().id[static_cast<size_t>(sample.local)]);
  }
  const auto n = static_cast<int64_t>(items.size());
  out.source = pick_side(source, n, pinned, false, &LoadedGroup::source);
  out.target = pick_side(target, n, pinned, false, &LoadedGroup::target);
  if (before.tokens > 0) {
    if (previous.empty()) previous.push_back({items.front().group, {}, {}});
    const auto layers = [&](at::Tensor StoredRows::*part) -> at::Tensor {
      std::vector<at::Tensor> picked;
      for (const int64_t layer : before.layers) {
        picked.push_back(
            pick_rows(previous, n * before.tokens, pinned, true, [&](const LoadedGroup& g) {
              const at::Tensor& all = g.source.*part;
              return all.defined() ? all.narrow(1, layer, 1) : all;
            }));
        if (!picked.back().defined()) return {};
      }
      return picked.size() == 1 ? picked.front() : at::cat(picked, 1);
    };
    out.previous = {layers(&StoredRows::keys), layers(&StoredRows::values),
                    layers(&StoredRows::key_scales), layers(&StoredRows::value_scales)};
  }
  out.rest.target_queries =
      pick_rows(target, n, pinned, false, [](const LoadedGroup& g) { return g.queries; });
  out.rest.target_attention_outputs =
      pick_rows(target, n, pinned, false, [](const LoadedGroup& g) { return g.attention_outputs; });
  out.rest.source_positions = long_tensor(source_positions);
  out.rest.target_positions = long_tensor(target_positions);
  return out;
}

GatheredSequences gather_sequences(const PairReader& reader, const std::vector<ItemRef>& items,
                                   bool pinned, bool pad_left) {
  GatheredSequences out;
  const auto sample_of = [](const ItemRef& ref) -> const GroupSample& {
    return ref.group
        ->samples[static_cast<size_t>(ref.group->sample_of_item[static_cast<size_t>(ref.item)])];
  };
  const auto batch = static_cast<int64_t>(items.size());
  for (const ItemRef& ref : items) {
    const GroupSample& s = sample_of(ref);
    out.source_tokens = std::max(out.source_tokens, s.source_end - s.source_begin);
    out.target_tokens = std::max(out.target_tokens, s.target_end - s.target_begin);
  }
  const int64_t ts = out.source_tokens, tt = out.target_tokens;
  const auto longs = at::TensorOptions().dtype(at::kLong);
  out.source_positions = at::zeros({batch, ts}, longs);
  out.target_positions = at::zeros({batch, tt}, longs);
  out.source_mask = at::zeros({batch, ts}, longs.dtype(at::kBool));
  out.target_mask = at::zeros({batch, tt}, longs.dtype(at::kBool));
  out.rest.alignment = at::zeros({batch, tt}, longs);
  std::vector<RowPick> source, target;
  for (int64_t b = 0; b < batch; ++b) {
    const LoadedGroup& g = *items[static_cast<size_t>(b)].group;
    const GroupSample& s = sample_of(items[static_cast<size_t>(b)]);
    const int64_t ns = s.source_end - s.source_begin, nt = s.target_end - s.target_begin;
    const int64_t source_shift = pad_left ? ts - ns : 0, target_shift = pad_left ? tt - nt : 0;
    int64_t* source_at = out.source_positions.mutable_data_ptr<int64_t>() + b * ts + source_shift;
    int64_t* target_at = out.target_positions.mutable_data_ptr<int64_t>() + b * tt + target_shift;
    int64_t* aligned = out.rest.alignment.mutable_data_ptr<int64_t>() + b * tt + target_shift;
    for (int64_t i = 0; i < ns; ++i) {
      add_pick(source, &g, s.source_begin + i, b * ts + source_shift + i);
      source_at[i] = g.source_positions[static_cast<size_t>(s.source_begin + i)];
    }
    for (int64_t i = 0; i < nt; ++i) {
      const auto row = static_cast<size_t>(s.target_begin + i);
      add_pick(target, &g, s.target_begin + i, b * tt + target_shift + i);
      target_at[i] = g.target_positions[row];
      aligned[i] = g.source_row[row] - s.source_begin + source_shift;
    }
    out.source_mask[b].narrow(0, source_shift, ns).fill_(true);
    out.target_mask[b].narrow(0, target_shift, nt).fill_(true);
    out.rest.records.push_back(reader.shard(s.shard).sample(s.local));
  }
  out.source = pick_side(source, batch * ts, pinned, true, &LoadedGroup::source);
  out.target = pick_side(target, batch * tt, pinned, true, &LoadedGroup::target);
  out.rest.target_queries =
      pick_rows(target, batch * tt, pinned, true, [](const LoadedGroup& g) { return g.queries; });
  out.rest.target_attention_outputs = pick_rows(
      target, batch * tt, pinned, true, [](const LoadedGroup& g) { return g.attention_outputs; });
  return out;
}

}  // namespace kvlingua
