// Generation: greedy or sampled continuation of a batch, from tokens or from an injected cache,
// with a preallocated cache.
//
// A row's text does not depend on the batch it is in, but for near ties: logits of one row vary
// below 1e-5 (float32) with the batch, so two ids closer than that may swap. A row also ends, as by
// max_new_tokens, at the model's last position.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

class DecodeSession;

struct GenerationOptions {
  int64_t max_new_tokens = 64;
  // A row ends when it produces one of these, which is kept out of the result.
  std::vector<int64_t> stop_ids;
  double temperature = 0.0;  // 0 = greedy
  int64_t top_k = 0;         // 0 = off
  double top_p = 1.0;
  // Sampling: one stream per row, from (seed, row_seeds[row] or row), so a row never depends on its
  // batch.
  uint64_t seed = 0;
  std::vector<uint64_t> row_seeds;
  // Told each id as it is produced (not the stop token); false ends the row there.
  std::function<bool(int64_t row, int64_t id)> on_token;
};

struct GeneratedRow {
  std::vector<int64_t> ids;  // without the stop token
  // Log-probability of each produced id (untempered); one more entry when `stopped`.
  std::vector<float> logprobs;
  bool stopped = false;  // ended by a stop token (false: by max_new_tokens)
  std::string finish_reason() const { return stopped ? "stop" : "length"; }
};

// `past` (may be null) holds one row per batch row; it is not modified.
std::vector<GeneratedRow> generate(const CausalLM& model, const TokenBatch& prompt,
                                   const KvCache* past, const GenerationOptions& options);
// Goes on in a session of `model` that has read its prompts and in its memory; `logits` [rows,
// vocab] as append() gave them.
std::vector<GeneratedRow> generate_from(const CausalLM& model, DecodeSession& session,
                                        const at::Tensor& logits, const GenerationOptions& options);

}  // namespace kvlingua
