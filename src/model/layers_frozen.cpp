// The layers (layers.h) without autograd: fused and in place.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kvlingua/kernels/attention.h"
#include "kvlingua/kernels/dense.h"
#include "kvlingua/kernels/qkv_rope.h"
#include "kvlingua/kernels/rms_norm.h"
#include "kvlingua/kernels/silu_mul.h"
#include "layers.h"

namespace kvlingua {
namespace {

// A CPU batch goes through a layer in blocks of whole rows of about this many tokens: what a layer
// needs beside weights and cache stays in the processor's cache, and its memory is the allocator's
// to reuse instead of the kernel's to clear.
constexpr int64_t kBlockTokens = 1024;

QkvRope rope_of(const ModelConfig& config, const LayerWeights& w, const AttentionFrame& frame) {
  return {frame.tables.cos, frame.tables.sin, w.q_norm, w.k_norm, config.rms_norm_eps};
}

at::Tensor rows_of(const at::Tensor& t, int64_t begin, int64_t n) {
  return t.defined() && t.size(0) > 1 ? t.narrow(0, begin, n) : t;
}

AttentionFrame rows_of(const AttentionFrame& frame, int64_t begin, int64_t n) {
  return {{rows_of(frame.tables.cos, begin, n), rows_of(frame.tables.sin, begin, n)},
          rows_of(frame.mask, begin, n),
          frame.is_causal};
}

// residual += o(attended), then the feed-forward block, in place. residual and attended [n, ...],
// contiguous.
void finish_layer(const ModelConfig& config, const LayerWeights& w, const at::Tensor& residual,
                  const at::Tensor& attended) {
  const int64_t rows = residual.size(0);
  const int64_t block = residual.is_cpu() ? kBlockTokens : rows;
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t n = std::min(block, rows - begin);
    const at::Tensor part = residual.narrow(0, begin, n);
    const at::Tensor x = add_rms_norm_(part, dense(attended.narrow(0, begin, n), w.o, w.o_bias),
                                       w.post_norm, config.rms_norm_eps);
    part.add_(dense(silu_mul(dense(x, w.gate_up, w.gate_up_bias)), w.down, w.down_bias));
  }
}

class FrozenPass {
 public:
  FrozenPass(const ModelConfig& config, const PreparedBatch& batch, Captured& captured)
      : config_(config), batch_(batch), captured_(captured) {}

  // One layer over all tokens, hidden [B, T, hidden] in place.
  void whole_layer(const LayerWeights& w, const at::Tensor& hidden, const JointKv& kv) {
    const int64_t past = kv.keys.size(2) - batch_.tokens;
    const int64_t block =
        hidden.is_cpu() ? std::max<int64_t>(1, kBlockTokens / batch_.tokens) : batch_.rows;
    at::Tensor all_queries, all_attended;
    for (int64_t begin = 0; begin < batch_.rows; begin += block) {
      const int64_t n = std::min(block, batch_.rows - begin);
      const at::Tensor part = hidden.narrow(0, begin, n);
      const AttentionFrame frame = rows_of(batch_.frame, begin, n);
      const at::Tensor keys = kv.keys.narrow(0, begin, n), values = kv.values.narrow(0, begin, n);
      const at::Tensor queries =
          at::empty({n, config_.num_heads, batch_.tokens, config_.head_dim}, hidden.options());
      const at::Tensor x = rms_norm(part, w.input_norm, config_.rms_norm_eps);
      split_qkv_rope(dense(x, w.qkv, w.qkv_bias), rope_of(config_, w, frame), queries,
                     keys.narrow(2, past, batch_.tokens), values.narrow(2, past, batch_.tokens));
      const at::Tensor attended = attend(queries, keys, values, frame);
      finish_layer(config_, w, part.view({n * batch_.tokens, -1}),
                   attended.view({n * batch_.tokens, -1}));
      keep(captured_.queries, all_queries, queries, begin);
      keep(captured_.attention_outputs, all_attended,
           attended.view({n, batch_.tokens, config_.num_heads, config_.head_dim}).transpose(1, 2),
           begin);
    }
    if (captured_.queries) captured_.query_layers.push_back(all_queries);
    if (captured_.attention_outputs) captured_.attention_layers.push_back(all_attended);
    if (captured_.hidden) captured_.hidden_layers.push_back(hidden.clone());
  }

  // The last layer when at most one row of it is wanted: keys and values of all tokens, the rest
  // for that row alone.
  at::Tensor last_layer(const LayerWeights& w, const at::Tensor& hidden, const JointKv& kv,
                        Rows rows) {
    const int64_t q_width = config_.num_heads * config_.head_dim, total = w.qkv.size(0);
    const int64_t past = kv.keys.size(2) - batch_.tokens;
    const auto projection = [&](const at::Tensor& x, int64_t begin, int64_t end) {
      return dense(x, w.qkv.narrow(0, begin, end - begin),
                   w.qkv_bias.defined() ? w.qkv_bias.narrow(0, begin, end - begin) : at::Tensor());
    };
    const at::Tensor x = rms_norm(hidden, w.input_norm, config_.rms_norm_eps);
    split_qkv_rope(projection(x, q_width, total), rope_of(config_, w, batch_.frame), {},
                   kv.keys.narrow(2, past, batch_.tokens),
                   kv.values.narrow(2, past, batch_.tokens));
    if (rows == Rows::kNone) return {};

    const auto at_last = [&](const at::Tensor& t,
                             int64_t dim) {  // [B or 1, .., T, C] -> [B, .., 1, C]
      auto size = t.sizes().vec();
      size[0] = batch_.rows;
      const at::Tensor wide = t.expand(size);
      size[static_cast<size_t>(dim)] = 1;
      std::vector<int64_t> ones(size.size(), 1);
      ones[0] = batch_.rows;
      return wide.gather(dim, batch_.last_B.view(ones).expand(size));
    };
    AttentionFrame frame;
    frame.tables = {at_last(batch_.frame.tables.cos, 1), at_last(batch_.frame.tables.sin, 1)};
    if (batch_.frame.mask.defined()) {
      frame.mask = at_last(batch_.frame.mask, 2);
    } else if (batch_.mask_BT.defined()) {  // padded on the right: causal alone decided
      frame.mask = at_last(attention_mask({}, batch_.mask_BT, 0, batch_.tokens, hidden.device(),
                                          hidden.scalar_type()),
                           2);
    }
    const at::Tensor queries =
        at::empty({batch_.rows, config_.num_heads, 1, config_.head_dim}, hidden.options());
    split_qkv_rope(projection(at_last(x, 1), 0, q_width), rope_of(config_, w, frame), queries, {},
                   {});
    const at::Tensor residual = at_last(hidden, 1);
    finish_layer(config_, w, residual.view({batch_.rows, -1}),
                 attend(queries, kv.keys, kv.values, frame).view({batch_.rows, -1}));
    return residual;
  }

 private:
  void keep(bool wanted, at::Tensor& all, const at::Tensor& part, int64_t begin) const {
    if (!wanted) return;
    if (!all.defined()) {
      auto size = part.sizes().vec();
      size[0] = batch_.rows;
      all = at::empty(size, part.options());
    }
    all.narrow(0, begin, part.size(0)).copy_(part);
  }

  const ModelConfig& config_;
  const PreparedBatch& batch_;
  Captured& captured_;
};

}  // namespace

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionFrame& frame) {
  return attention(q, k, v, frame.mask, frame.is_causal);
}

at::Tensor run_frozen(const FrozenModel& model, const PreparedBatch& batch, Rows rows,
                      const std::function<JointKv(int64_t)>& joint,
                      const std::function<void(int64_t)>& done, Captured& captured) {
  const at::NoGradGuard no_grad;
  const at::Tensor hidden = at::embedding(model.embedding, batch.ids_BT);
  if (captured.hidden) captured.hidden_layers.push_back(hidden.clone());
  FrozenPass pass(model.config, batch, captured);
  const int64_t last = model.config.num_layers - 1;
  const bool trimmed =
      !captured.any() && (rows == Rows::kNone || (rows == Rows::kLast && batch.tokens > 1));
  at::Tensor result = hidden;
  for (int64_t i = 0; i <= last; ++i) {
    const JointKv kv = joint(i);
    const LayerWeights& weights = model.layer(i);
    if (i == last && trimmed) {
      result = pass.last_layer(weights, hidden, kv, rows);
    } else {
      pass.whole_layer(weights, hidden, kv);
    }
    done(i);
  }
  if (rows == Rows::kLast && !trimmed && batch.tokens > 1) {
    const at::Tensor at_row = batch.last_B.view({-1, 1, 1}).expand({batch.rows, 1, hidden.size(2)});
    return hidden.gather(1, at_row);
  }
  return result;
}

}  // namespace kvlingua
