// Reading many rows at a time with a Reader (bridge/reader.h).
#pragma once

#include <cstdint>
#include <vector>

#include "kvlingua/bridge/reader.h"

namespace kvlingua {

// Calls visit(begin, end) for batches of rows in the order given.
template <class Visit>
void in_batches(size_t n, int64_t batch_size, const Visit& visit) {
  const auto step = static_cast<size_t>(batch_size > 0 ? batch_size : 1);
  for (size_t begin = 0; begin < n; begin += step)
    visit(begin, begin + step < n ? begin + step : n);
}

// One row a cache, of different lengths: padded behind, masked. Equal rotation and shape. All empty
// gives an empty cache.
KvCache stack_padded(const std::vector<KvCache>& rows);

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
