// From a TokenBatch and a past to what the layers need: checked ids, positions, rotation tables and
// the attention mask.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/model/model_config.h"

namespace kvlingua {

// What every layer's attention shares. T new tokens behind S past ones.
struct AttentionFrame {
  RopeTables tables;  // [B or 1, T, D/2] float32, contiguous
  // additive, compute dtype, [B or 1, 1, T, S + T]; undefined: causal alone decides
  at::Tensor mask;
  bool is_causal = false;  // top-left causal, only without past; false and no mask: every key is
                           // seen (one new token)
  bool given = false;      // the past holds keys and values of the new tokens too: use those
};

struct PreparedBatch {
  int64_t rows = 0, tokens = 0;
  at::Tensor ids_BT;        // int64, on the model's device
  at::Tensor mask_BT;       // bool, or undefined: nothing is padded
  at::Tensor positions_BT;  // int64, padded ones at their row's nearest real position before
  at::Tensor last_B;        // int64: index of each row's last real token
  AttentionFrame frame;
};

// What stands before the new tokens: of a KvCache, or of a DecodeSession's storage.
struct PastFrame {
  int64_t tokens = 0;
  at::Tensor positions_BT;  // undefined when there is no past
  at::Tensor mask_BT;       // or undefined: nothing is padded
  // The position that each row's next token takes, where the host knows it: saves asking a device.
  const std::vector<int64_t>* next = nullptr;
};

// What the host knows of a batch stays there: ids, mask and positions in host memory are checked
// there and go to the device in one pinned upload that nobody waits for. Throws Error (kInput): ids
// outside the vocabulary, shapes that do not fit, positions past the model's.
PreparedBatch prepare_batch(const TokenBatch& batch, const PastFrame& past,
                            const ModelConfig& config, at::Device device, at::ScalarType dtype);

// Additive mask [B or 1, 1, T, S + T] over past and new keys: bottom-right causal and no padding. A
// padded query sees itself, so that no row of the softmax is empty.
at::Tensor attention_mask(const at::Tensor& past_mask_BS, const at::Tensor& new_mask_BT,
                          int64_t past_tokens, int64_t tokens, at::Device device,
                          at::ScalarType dtype);

}  // namespace kvlingua
