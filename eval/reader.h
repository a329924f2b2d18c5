// Reader: a model with its tokenizer and chat frame, and the fixed prefix it reads before every
// span.
//
// The prefix (a beginning-of-text token where the tokenizer adds one, then ChatFrame::before) is
// read once and its cache kept: it is the same for every item, and for the target it holds the
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

// Calls visit(begin, end) for batches of rows in the order given.
template <class Visit>
void in_batches(size_t n, int64_t batch_size, const Visit& visit) {
  const auto step = static_cast<size_t>(batch_size > 0 ? batch_size : 1);
  for (size_t begin = 0; begin < n; begin += step)
    visit(begin, begin + step < n ? begin + step : n);
}

// `count` copies of the one row of `cache`, sharing its storage where torch can.
KvCache repeat_rows(const KvCache& cache, int64_t count);
// One row a cache, of different lengths: padded behind, masked. Equal rotation and shape. All empty
// gives an empty cache.
KvCache stack_padded(const std::vector<KvCache>& rows);
// Row `row` without its padding, copied.
KvCache take_row(const KvCache& stacked, int64_t row);

// The caches of `rows`, each read behind `prefix` (one row; may be null) or from position `first`
// on, `batch_size` at a time.
std::vector<KvCache> read_rows(const CausalLM& model, const std::vector<std::vector<int64_t>>& rows,
                               int64_t batch_size, const KvCache* prefix = nullptr,
                               int64_t first = 0);

// The caches (without the prefix) of `spans`, each read after the reader's prefix, `batch_size` at
// a time.
std::vector<KvCache> read_spans(const Reader& reader,
                                const std::vector<std::vector<int64_t>>& spans, int64_t batch_size);

}  // namespace kvlingua
