// Fusion as Cache-to-Cache does it: the target reads a prompt section by section, and after each
// section that asks for it, the target's own cache of those tokens is replaced by the fuser's blend
// of it with the source's cache of the same tokens.
//
// Sections follow the reference's kv_cache_index: a selector per token, <= 0 for no fusion, else a
// bit mask of sources (bit j: source j); a sample is cut where its selector changes, sections of a
// batch are padded on the right to their longest, positions count real tokens only. The last
// section is never fused: it begins with the last prompt token, whose logit gives the first token
// of the answer. Here because training and evaluation both read prompts this way. arXiv 2510.03215.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/projector/c2c_fuser.h"

namespace kvlingua {

inline constexpr int64_t kIgnoredLabel = -100;

struct FusionSample {
  std::vector<int64_t> target_ids;
  // One list per source, each as long as target_ids; empty: the target's ids.
  std::vector<std::vector<int64_t>> source_ids;
  std::vector<int64_t> selector;  // per token
  std::vector<int64_t> labels;    // per token, kIgnoredLabel where nothing is learnt
  // Padding inside a sample (chat templates of two models aligned, fusion_alignment.h): false where
  // that model has no token. Positions count it. Empty: every token is real.
  std::vector<bool> target_real;
  std::vector<std::vector<bool>> source_real;
};

// Prompt fused but for its last token, the answer learnt: what the reference's chat data sets make.
// Throws Error (kInput) when the prompt is shorter than two tokens or the answer is empty.
FusionSample chat_fusion_sample(const std::vector<int64_t>& ids, int64_t prompt_tokens);

struct FusionSection {
  TokenBatch target;                     // ids, mask (true = real), positions
  std::vector<at::Tensor> source_ids;    // [B, T] per source; empty: the target's ids
  std::vector<at::Tensor> source_masks;  // [B, T] per source; empty: the target's mask
  int64_t selector = 0;
};

struct FusionBatch {
  std::vector<FusionSection> sections;
  // What the last section teaches, gathered on the CPU so that a step need not wait for the device:
  // the logit at (row, token) predicts the answer. Shifted by one inside the section, as causal
  // language models are trained.
  at::Tensor logit_positions;  // [N, 2]
  at::Tensor answers;          // [N]
  int64_t tokens = 0;          // real target tokens
  // What the loss needs there. Sections stay in host memory: a prefill chooses its attention by
  // their masks, and uploads them in one piece.
  FusionBatch to(at::Device device) const;
};

// max_tokens cuts from the right after padding, 0 = no limit. Throws Error (kInput) when the
// samples' sections differ in their selectors (the reference would silently take the first
// sample's), or when nothing is left to learn.
FusionBatch collate_fusion(const std::vector<FusionSample>& samples, int64_t pad_id = 0,
                           int64_t max_tokens = 0);

// One source and its fuser; both must outlive it.
struct FusionSource {
  const CausalLM* model = nullptr;
  const C2CFuser* fuser = nullptr;
};
enum class FusionOrder { kSequential, kParallel };

// The sections that a source reads: all but the last, or with the answer all.
inline size_t sections_read(const FusionBatch& batch, bool with_answer) {
  return batch.sections.size() - (with_answer ? 0 : 1);
}

// The source's cache of those sections; no gradient. Does not depend on any fuser, so it can be
// kept between epochs.
KvCache read_source(const CausalLM& source, const FusionBatch& batch, size_t source_index,
                    bool with_answer = false);

// The target's cache of every section but the last, fused. Differentiable with respect to the
// fusers' parameters. `source_caches`: one per source, as read_source() gives them. kParallel:
// every source blends with the clean cache and the differences are added. `clean`, when given,
// receives the target's cache as it was before its newest section was fused.
KvCache fused_prefill(const CausalLM& target, const std::vector<FusionSource>& sources,
                      const std::vector<KvCache>& source_caches, const FusionBatch& batch,
                      FusionOrder order, const C2CFuser::Mode& mode, KvCache* clean = nullptr);

// The reference's include_response: keys and values of the last section, as the source and a target
// that read behind the clean cache have them, fused. For fusion_loss. `source_cache`: with the
// answer.
KvCache fused_answer(const CausalLM& target, const FusionSource& source,
                     const KvCache& source_cache, const KvCache& clean, const FusionBatch& batch,
                     const C2CFuser::Mode& mode);

// Cross-entropy (float32, summed over the labels of the last section, shifted by one inside it) and
// the number of labels.
struct FusionLoss {
  at::Tensor sum;
  int64_t labels = 0;
};
// `answer`: what attention sees of the last section instead of the target's own (fused_answer).
FusionLoss fusion_loss(const CausalLM& target, const KvCache& fused_past, const FusionBatch& batch,
                       bool checkpoint_activations = false, const KvCache* answer = nullptr);

}  // namespace kvlingua
