// What a source reads instead of the target's tokens when the two models' tokenizers differ, as
// Cache-to-Cache aligns them (its aligner.py): one source token for every target token.
//
//   token      special tokens by their part (pad, eos, bos, unk), else by their text; any other is
//              decoded alone and encoded by the source, which may give several: `first` takes the
//              first of them, `longest` the one of most characters, the earliest of equals
//   chat       each model renders its own template; the text between contents stays each model's
//              own, padded behind to equal length, and is never fused; contents are the target's
//              tokens and the ones aligned to them
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "kvlingua/bridge/fusion.h"
#include "kvlingua/bridge/text_reader.h"
#include "kvlingua/text/alignment.h"
#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

class TokenAligner {
 public:
  // kFirst or kLongest; throws Error (kUsage) for another kind. Both tokenizers must outlive it.
  TokenAligner(const Tokenizer& target, const Tokenizer& source, AlignmentKind kind);
  // Remembers what it found; not thread-safe.
  int64_t operator()(int64_t target_id);

 private:
  int64_t find(int64_t target_id) const;
  int64_t special(int64_t target_id) const;

  const Tokenizer* target_;
  const Tokenizer* source_;
  AlignmentKind kind_;
  std::unordered_map<int64_t, int64_t> known_;
};

// The last message is the answer that is learnt, with the template's tail behind it; the other
// contents are fused. Throws Error (kInput) when a content is not found in a rendered template, or
// nothing is left to fuse or to learn. Both readers are of a chat family.
FusionSample aligned_chat_sample(const std::vector<ChatMessage>& messages, const TextReader& target,
                                 const TextReader& source, TokenAligner& aligner);

}  // namespace kvlingua
