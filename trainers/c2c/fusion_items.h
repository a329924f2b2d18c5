// What Cache-to-Cache's training reads: conversations, of which the last assistant turn is learnt
// and what stands before it is fused. In tokens of both models, kept small: half a million
// conversations must fit in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/bridge/fusion.h"
#include "kvlingua/bridge/fusion_alignment.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct FusionItem {
  std::vector<int32_t> target_ids;
  std::vector<int32_t> source_ids;  // aligned to them; empty: the source reads the target's ids
  std::vector<uint8_t> marks;       // of aligned ones, kTargetReal and the like; empty: all real
  int32_t prompt = 0;               // tokens before the answer

  static constexpr uint8_t kTargetReal = 1, kSourceReal = 2, kFused = 4;
  static FusionItem of(const FusionSample& sample, int64_t prompt);
  FusionSample sample() const;
  int64_t tokens() const { return static_cast<int64_t>(target_ids.size()); }
  // Equal for items that can share a batch: the number of sections and what the first one selects.
  int64_t pattern() const;
  // Tokens that a source reads: all sections but the last.
  int64_t source_tokens() const;
};

struct FusionCorpus {
  std::vector<FusionItem> items;
  int64_t left_out = 0;   // too long, without an answer, or malformed when data.skip_bad
  std::string alignment;  // "identity", "first" or "longest": what was used
};

// The recipe's conversations: data.kind chat or sharegpt, or synthetic (the families, one turn
// each). pair.alignment identity has the source read the target's own ids; last_char, which cannot
// be done token by token, becomes identity for equal tokenizers and longest for others. Throws
// Error (kInput) when none is left; kUsage for a corpus without conversations.
FusionCorpus make_fusion_corpus(const Recipe& recipe, const TextReader& target,
                                const TextReader& source, int64_t source_vocab, uint64_t seed);

}  // namespace kvlingua
