#include "kvlingua/projector/block_linear.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {
std::vector<int64_t> matched_heads(int64_t h, int64_t source_heads, int64_t target_heads) {
  const int64_t width = std::max<int64_t>(1, source_heads / target_heads);
  const int64_t first = std::min(h * source_heads / target_heads, source_heads - width);
  std::vector<int64_t> heads(static_cast<size_t>(width));
  for (int64_t i = 0; i < width; ++i) heads[static_cast<size_t>(i)] = first + i;
  return heads;
}

BlockPlan BlockPlan::make(const KvShape& source, const KvShape& target, bool joint,
                          bool head_matched, const at::Tensor& layers_PLtK,
                          const std::vector<int64_t>& candidates) {
  BlockPlan plan{.source = source, .target = target, .joint = joint, .head_matched = head_matched};
  const int64_t part_blocks = source.layers * source.kv_heads;
  const at::Tensor same =
      candidates.empty() ? at::arange(source.layers) : at::tensor(candidates, at::kLong);
  if (!layers_PLtK.defined() && !head_matched) {
    const at::Tensor heads = at::arange(source.kv_heads);
    const at::Tensor keys = (same.unsqueeze(1) * source.kv_heads + heads).flatten();
    const at::Tensor both = at::stack({keys, keys + part_blocks});
    plan.select = (joint ? both.view({1, -1}) : both).contiguous();
    return plan;
  }
  const at::Tensor layers = (layers_PLtK.defined() ? layers_PLtK.to(at::kCPU)
                                                   : same.expand({2, target.layers, same.numel()}))
                                .contiguous();
  const int64_t head_groups = head_matched ? target.kv_heads : 1;
  std::vector<int64_t> select;
  for (int64_t part = 0; part < 2; ++part) {
    for (int64_t t = 0; t < target.layers; ++t) {
      for (int64_t h = 0; h < head_groups; ++h) {
        std::vector<int64_t> heads = matched_heads(h, source.kv_heads, target.kv_heads);
        if (!head_matched) {
          heads.clear();
          for (int64_t i = 0; i < source.kv_heads; ++i) heads.push_back(i);
        }
        for (int64_t read = joint ? 0 : part; read <= (joint ? 1 : part); ++read) {
          for (int64_t i = 0; i < layers.size(2); ++i) {
            const int64_t layer = layers[part][t][i].item<int64_t>();
            for (const int64_t head : heads)
              select.push_back(read * part_blocks + layer * source.kv_heads + head);
          }
        }
      }
    }
  }
  plan.select = at::tensor(select, at::kLong).view({2 * target.layers * head_groups, -1});
  return plan;
}

at::Tensor gather_features(const BlockPlan& plan, const at::Tensor& channels_NC) {
  const int64_t rows = channels_NC.size(0);
  if (plan.contiguous())
    return channels_NC.view({rows, plan.groups(), plan.in_width()}).transpose(0, 1);
  return channels_NC.view({rows, -1, plan.source.head_dim})
      .index_select(1, plan.select.to(channels_NC.device()).flatten())
      .view({rows, plan.groups(), plan.in_width()})
      .transpose(0, 1);
}

at::Tensor scatter_outputs(const BlockPlan& plan, const at::Tensor& outputs_GNE) {
  const KvShape& t = plan.target;
  return outputs_GNE.transpose(0, 1).reshape(
      {outputs_GNE.size(1), 2, t.layers, t.kv_heads, t.head_dim});
}

}  // namespace kvlingua
