// BlockLinear: the linear maps from source rows to target rows that ridge and mlp are made of, as
// one batched GEMM.
//
// A row of the source is a list of blocks: one block is the head_dim channels of one head of one
// layer, first all keys, then all values (2 * layers * kv_heads blocks). The target's channels are
// split in groups; each group reads its own list of blocks:
//   full, all layers        2 groups: K reads every K block, V every V block; plain GEMMs
//   full, k layers          2 * Lt groups, each reading all heads of its k layers
//   head_matched, k layers  2 * Lt * Ht groups, each reading the matching head(s) of its k layers
//
// With joint features K and V groups read keys and values both ("full, all layers" is then a single
// group). Groups are ordered part (K, V), layer, head, so their outputs side by side are the
// target's channels in order.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kvlingua/cache/kv_shape.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

struct BlockPlan {
  KvShape source, target;
  bool joint = false;  // both parts read keys and values
  bool head_matched = false;
  at::Tensor select;  // int64 [groups, blocks per group], on the CPU or the weights' device

  // layers_PLtK: int64 [2, target layers, k] source layers read by each target layer's keys and
  // values. Undefined: every target layer reads the same ones, `candidates` (empty: all).
  static BlockPlan make(const KvShape& source, const KvShape& target, bool joint, bool head_matched,
                        const at::Tensor& layers_PLtK = {},
                        const std::vector<int64_t>& candidates = {});

  int64_t groups() const { return select.size(0); }
  int64_t in_width() const { return select.size(1) * source.head_dim; }
  int64_t out_width() const { return 2 * target.layers * target.width() / groups(); }
  // One group covers all target layers of a part (or both parts).
  bool dense() const { return groups() <= 2 && out_width() >= target.layers * target.width(); }
  // Groups read all blocks in order: no gather needed.
  bool contiguous() const {
    return dense() && select.numel() == 2 * source.layers * source.kv_heads;
  }
};

// The source heads that target head h reads when heads are matched: one, or a run of them when the
// source has more.
std::vector<int64_t> matched_heads(int64_t h, int64_t source_heads, int64_t target_heads);

// Standardised source channels [N, 2 * Ls * Hs * Ds] (keys, then values) gathered by group:
// [groups, N, in_width].
at::Tensor gather_features(const BlockPlan& plan, const at::Tensor& channels_NC);
// [groups, N, out_width] -> [N, 2, Lt, Ht, Dt].
at::Tensor scatter_outputs(const BlockPlan& plan, const at::Tensor& outputs_GNE);

}  // namespace kvlingua
