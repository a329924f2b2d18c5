// DecodeSession: a batch that is read and continued token by token, its cache in memory reserved
// ahead.
//
// New keys and values are written where they stay: no step copies the cache. Rows may differ in
// length (padding is masked), stand at different positions and be dropped as they finish; room
// doubles when it runs out. Never differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

class DecodeSession {
 public:
  // `model` must outlive the session. `room`: tokens a row expected beside the past, a hint.
  DecodeSession(const CausalLM& model, int64_t rows, int64_t room = 0);
  // Starts from a cache (copied once), one row of it for each row. Throws Error (kInput) when it
  // does not fit the model.
  DecodeSession(const CausalLM& model, const KvCache& past, int64_t room = 0);
  // Each row begins with the caches named for it, one behind the other (one row each, without
  // padding, null or empty ones left out); `next` is the position its next token takes, which
  // positions before it need not reach. Rows of different length are padded behind. A few copies
  // for all rows together. Throws Error (kInput) when one does not fit the model.
  DecodeSession(const CausalLM& model, const std::vector<std::vector<const KvCache*>>& pasts,
                std::vector<int64_t> next, int64_t room = 0);

  int64_t rows() const { return rows_; }
  int64_t tokens() const { return length_; }  // columns in use, padding included
  int64_t capacity() const { return keys_.size(3); }
  // The position the next token of each row takes.
  const std::vector<int64_t>& next_positions() const { return next_; }

  // Reads more tokens behind what is there. Returns float32 logits: kLast [rows, vocab], kAll
  // [rows, T, vocab], kNone undefined. Throws Error (kInput) as CausalLM::prefill does.
  at::Tensor append(const TokenBatch& batch, LogitsAt logits = LogitsAt::kLast);
  // The same, giving what the vocabulary head reads after each row's last token (CausalLM::head),
  // [rows, hidden].
  at::Tensor append_hidden(const TokenBatch& batch);
  // One token for each row, ids int64 [rows], on the host or the model's device: the fast path of
  // append. Nothing in it waits for a device. Returns [rows, vocab].
  at::Tensor step(const at::Tensor& ids_B);
  // Keeps these rows (indices, host memory), in this order.
  void keep_rows(const std::vector<int64_t>& indices);
  // All that was read, as a cache that shares the session's memory: valid until the next call that
  // changes the session.
  KvCache cache() const;

 private:
  void reserve(int64_t capacity);
  void ensure_mask();
  void hide_padding(int64_t begin, const at::Tensor& mask_BT);
  at::Tensor read(const TokenBatch& batch, LogitsAt rows);
  // The residual stream where `rows` asks for it, [rows, hidden] or [rows, T, hidden].
  at::Tensor run(const struct PreparedBatch& batch, LogitsAt rows);
  std::vector<int64_t> following(const TokenBatch& batch,
                                 const struct PreparedBatch& batch_read) const;
  at::TensorOptions mask_options() const;

  const CausalLM* model_;
  int64_t rows_ = 0, length_ = 0;
  at::Tensor keys_, values_;  // [L, B, H, capacity, D]
  at::Tensor positions_;      // [B, capacity] int64
  at::Tensor mask_;           // [B, capacity] bool; undefined: nothing is padded
  at::Tensor step_mask_;      // the same as additive [B, 1, 1, capacity], for one new token
  at::Tensor next_B_;         // next_ on the device; undefined until a step needs it
  RopeTables tables_;         // of positions 0 .. as far as needed
  std::vector<int64_t> next_;
};

}  // namespace kvlingua
