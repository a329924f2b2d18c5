// Reader: a model with its tokenizer and chat frame, and the fixed prefix it reads before every
// span.
//
// The prefix (a beginning-of-text token where the tokenizer adds one, then ChatFrame::before) is
// read once and its cache kept: it is the same for every span, and for the target it holds the
// attention sinks that no projector may touch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct Reader {
  const CausalLM* model = nullptr;
  const Tokenizer* tokenizer = nullptr;
  ChatFrame frame;
  std::vector<int64_t> before;    // tokens of the prefix; may be empty (a plain frame without BOS)
  std::vector<int64_t> stop_ids;  // end a turn
  KvCache prefix;                 // of `before`, one row at positions 0..; empty when `before` is

  // The model and tokenizer must outlive the reader.
  static Reader make(const CausalLM& model, const Tokenizer& tokenizer, const ChatFrame& frame);

  int64_t prefix_length() const { return static_cast<int64_t>(before.size()); }
  std::vector<int64_t> encode(std::string_view text) const;   // without special tokens of its own
  std::string decode(const std::vector<int64_t>& ids) const;  // special tokens left out
};

// `count` copies of the one row of `cache`, sharing its storage where torch can.
KvCache repeat_rows(const KvCache& cache, int64_t count);

// Rows of different length that stand behind caches: row r's tokens at first_positions[r], one
// after the other; padding (behind) repeats its row's last position. Positions are said, not
// inferred, since an injected cache may leave a gap before the tokens.
TokenBatch rows_at(const std::vector<std::vector<int64_t>>& rows,
                   const std::vector<int64_t>& first_positions);

}  // namespace kvlingua
