// Reader: a TextReader with the model itself, which has read the prefix already.
//
// The prefix is read once and its cache kept: it is the same for every span, and for the target it
// holds the attention sinks that no projector may touch.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlingua/bridge/open_model.h"
#include "kvlingua/bridge/text_reader.h"
#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

struct Reader : TextReader {
  const CausalLM* model = nullptr;
  KvCache prefix;  // of `before`, one row at positions 0..; empty when `before` is

  // The model and the text's tokenizer must outlive the reader. Throws Error (kInput) when they do
  // not belong together.
  static Reader make(const CausalLM& model, TextReader text);
};

// An open model as a reader, in the chat frame of its options or of others. `opened` must live as
// long. Throws Error as TextReader::of().
Reader reader_of(const OpenModel& opened, const ModelOptions& options);
inline Reader reader_of(const OpenModel& opened) { return reader_of(opened, opened.files.options); }

// `count` copies of the one row of `cache`, sharing its storage where torch can.
KvCache repeat_rows(const KvCache& cache, int64_t count);

// Rows of different length that stand behind caches: row r's tokens at first_positions[r], one
// after the other; padding (behind) repeats its row's last position. Positions are said, not
// inferred, since an injected cache may leave a gap before the tokens.
TokenBatch rows_at(const std::vector<std::vector<int64_t>>& rows,
                   const std::vector<int64_t>& first_positions);

}  // namespace kvlingua
