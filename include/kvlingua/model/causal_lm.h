// CausalLM: a decoder (Qwen2, Qwen3, Llama) loaded from a Hugging Face directory, exact to
// transformers.
//
// It speaks KvCache: prefill() reads tokens, maybe after an injected past, and gives the new cache.
// Logits are computed only at positions somebody asked for: the vocabulary head is a quarter of a
// 0.6B model's work. Weights are frozen until requires_grad is set on some of parameters();
// gradients with respect to an injected past always flow. Several threads may read with one model
// at once, unless it streams layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/kernels/head_loss.h"
#include "kvlingua/model/model_config.h"
#include "kvlingua/model/weight_format.h"

namespace kvlingua {

struct LoadOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // compute dtype; weights are converted while they are copied
  // Keeps two layers at a time (and embedding and head), one computed while the other comes: for
  // models larger than the device's memory. The same results bit for bit; every pass reads the
  // files once, so decoding is slow. Not from several threads at once.
  bool layer_streaming = false;
  // How the layers' matrices are held; float weights are quantised while they are copied. What is
  // quantised cannot be trained or saved; gradients to an injected past flow.
  WeightOptions weights = {};
};

// Rounding: RMS norm and RoPE are computed in float32 and rounded once to the compute dtype. In
// float32 that is transformers' arithmetic; in half types transformers rounds cos, sin and each
// product of the rotation, so keys differ by about one unit in the last place. A row's results
// depend on its batch only through the order of sums inside matrix products (below 1e-5 in float32
// for logits of order one).

// A batch of token sequences. Padding may stand anywhere; position_ids count real tokens only
// unless given.
struct TokenBatch {
  at::Tensor ids_BT;   // int64
  at::Tensor mask_BT;  // bool, true = real; undefined = nothing is padded
  // int64; undefined = 0.. per row over real tokens, continuing after the past
  at::Tensor positions_BT;

  // Rows of different length, padded on the right (or left) with pad_id.
  static TokenBatch from_rows(const std::vector<std::vector<int64_t>>& rows, bool pad_left = false,
                              int64_t pad_id = 0);
};

enum class LogitsAt { kNone, kLast, kAll, kPositions };

struct PrefillOptions {
  LogitsAt logits = LogitsAt::kNone;
  at::Tensor logit_positions;  // kPositions: int64 [N, 2] of (row, token index)
  // Instead of the logits what the vocabulary head would read there (PrefillResult::head_input): a
  // distribution over the vocabulary takes some kilobytes this way, and head() or a loss makes as
  // many logits at a time as there is room for.
  bool head_input_only = false;
  bool want_cache = true;
  // Keys (rotated) and values of the new tokens that attention sees instead of the model's own, in
  // every layer; the result's cache still holds its own. Differentiable. Not with a streamed model.
  const KvCache* given = nullptr;
  // Captures for losses and fidelity, off by default.
  bool want_queries = false;            // rotated queries [L, B, query_heads, T, D]
  bool want_attention_outputs = false;  // before o_proj [L, B, query_heads, T, D]
  bool want_hidden = false;             // residual stream after every layer [L + 1, B, T, hidden]
  bool checkpoint_activations = false;  // recompute layers in backward
};

struct PrefillResult {
  // The *new* tokens' keys (rotated) and values; joined with the past by the caller when wanted.
  KvCache cache;
  // float32. kLast: [B, vocab] at each row's last real token; kAll: [B, T, vocab]; kPositions:
  // [N, vocab].
  at::Tensor logits;
  // Compute dtype, before the final norm, [.., hidden] in place of [.., vocab].
  at::Tensor head_input;
  at::Tensor queries, attention_outputs, hidden;  // undefined unless asked for
};

// What rows of the vocabulary head are compared with; see HeadLoss.
struct HeadTargets {
  at::Tensor answers_N;   // int64; undefined: no cross-entropy
  at::Tensor weights_N;   // float32; undefined: every row counts 1
  at::Tensor teacher_NC;  // head_input of the teacher; undefined: no KL
  double temperature = 1;
};

class CausalLM {
 public:
  // `directory` as resolve_model() gives it. Throws Error: kInput, kCorrupt, kDevice.
  static CausalLM load(const std::filesystem::path& directory, const LoadOptions& options = {});
  // Random weights at the config's shapes (benchmarks, tests, training from scratch); seeded.
  static CausalLM random(const ModelConfig& config, const LoadOptions& options = {},
                         uint64_t seed = 0);

  CausalLM(CausalLM&&) noexcept;
  CausalLM& operator=(CausalLM&&) noexcept;
  ~CausalLM();

  const ModelConfig& config() const;
  KvShape kv_shape() const;
  RopeSpec rope() const;
  at::Device device() const;
  at::ScalarType dtype() const;
  int64_t weight_bytes() const;  // in memory; of a streamed model without its layers
  bool streams_layers() const;
  WeightFormat weight_format() const;
  // sha256 over config.json and every tensor's name, type, shape and first and last 4 KiB: names
  // the artifact in pair sets and checkpoints, and tells two fine-tunings of one model apart. Of a
  // random model: its config and seed, whatever is trained. Behind "nf4-", "nf4-double-" or "int8-"
  // when weights were quantised at load: such a model is another one.
  const std::string& fingerprint() const;

  // past: keys must be rotated with this model's rope; its tokens come before `batch`. Throws Error
  // (kInput) when it (or options.given) does not fit or the positions run past
  // config().max_position_embeddings.
  PrefillResult prefill(const TokenBatch& batch, const KvCache* past = nullptr,
                        const PrefillOptions& options = {}) const;

  // Final norm and vocabulary head: rows [.., hidden] of PrefillResult::head_input -> float32
  // logits [.., vocab].
  at::Tensor head(const at::Tensor& head_input) const;

  // Losses of the distributions that the head makes of such rows [N, hidden], without ever holding
  // all logits (kernels/head_loss.h): cross-entropy to `answers_N`, KL from what the head makes of
  // `teacher_NC`. Weighted sums, differentiable in head_input.
  HeadLosses head_losses(const at::Tensor& head_input, const HeadTargets& targets) const;

  // Named parameters in Hugging Face's names, for training from scratch; requires_grad is the
  // caller's to set. Each is an autograd leaf over memory that inference reads too: update it in
  // place (optimisers do), never replace its data. Throws Error (kUsage) for a streamed model, as
  // save() does and prefill() when a gradient is asked for.
  std::vector<std::pair<std::string, at::Tensor>> parameters() const;
  // Writes config.json and model.safetensors (in `dtype`) that transformers loads.
  void save(const std::filesystem::path& directory, at::ScalarType dtype) const;

 private:
  friend class DecodeSession;
  struct Impl;
  explicit CausalLM(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
