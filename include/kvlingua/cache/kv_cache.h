// KvCache: the keys and values of all layers of one model for a batch of sequences; the type every
// stage speaks.
//
// One stacked tensor for all layers makes a projector one batched GEMM per matrix instead of a loop
// over layers.
//   keys_LBHTD, values_LBHTD   [layers, batch, kv_heads, tokens, head_dim]
//   positions_BT               [batch, tokens] int64, where each token stands (and its key is
//                              rotated, if it is)
//   mask_BT                    [batch, tokens] bool, false for padding; undefined: no padding
//   rope                       the rotation the keys carry; none when they are un-rotated
// Source: RoPE acts on keys only, so values never change here. This header knows no model.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlingua/cache/kv_shape.h"
#include "kvlingua/cache/rope.h"

namespace kvlingua {

class KvCache {
 public:
  KvCache() = default;
  // Throws Error (kInput) naming both shapes when the tensors do not fit each other.
  KvCache(at::Tensor keys_LBHTD, at::Tensor values_LBHTD, at::Tensor positions_BT,
          std::optional<RopeSpec> rope, at::Tensor mask_BT = {});

  bool empty() const { return !keys_LBHTD_.defined() || tokens() == 0; }
  KvShape shape() const;
  int64_t layers() const { return keys_LBHTD_.size(0); }
  int64_t batch() const { return keys_LBHTD_.size(1); }
  int64_t kv_heads() const { return keys_LBHTD_.size(2); }
  int64_t tokens() const { return keys_LBHTD_.size(3); }
  int64_t head_dim() const { return keys_LBHTD_.size(4); }

  const at::Tensor& keys() const { return keys_LBHTD_; }
  const at::Tensor& values() const { return values_LBHTD_; }
  const at::Tensor& positions() const { return positions_BT_; }
  const at::Tensor& mask() const { return mask_BT_; }  // may be undefined: nothing is padded
  const std::optional<RopeSpec>& rope() const { return rope_; }

  // Keys with their rotation removed; positions stay (they say where the tokens stood). No-op when
  // already un-rotated.
  KvCache unrotated() const;
  // Keys rotated by `rope` at `positions_BT` ([batch, tokens] or [1, tokens]); un-rotates first
  // when needed.
  KvCache rotated_to(const RopeSpec& rope, const at::Tensor& positions_BT) const;
  // The same keys declared to stand elsewhere, *without* re-rotation. Wrong on purpose: the
  // raw_shifted condition.
  KvCache relabelled(const at::Tensor& positions_BT) const;

  KvCache slice(int64_t begin, int64_t end) const;            // tokens [begin, end); shares storage
  KvCache select_batch(const at::Tensor& indices) const;      // rows of the batch, copied
  KvCache select_tokens(const at::Tensor& indices) const;     // tokens by index [n], copied
  KvCache to(at::Device device, at::ScalarType dtype) const;  // shares storage when nothing changes
  KvCache clone() const;                                      // deep copy
  KvCache detach() const;
  // Joins along tokens; ropes must be equal, shapes and batch too. Throws Error (kInput).
  static KvCache concat(const KvCache& first, const KvCache& second);
  // Joins along the batch.
  static KvCache stack_batch(const std::vector<KvCache>& caches);

  // Bytes of keys and values.
  int64_t bytes() const;
  int64_t bytes_per_token() const;
  // sha256 (hex) over shape, dtype, positions, rope and the exact bits of keys and values.
  std::string fingerprint() const;

 private:
  at::Tensor keys_LBHTD_, values_LBHTD_, positions_BT_, mask_BT_;
  std::optional<RopeSpec> rope_;
};

}  // namespace kvlingua
