// What a pair set must hold of one sample: the span's entries of a prefill of prefix and span
// alone.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlingua/bridge/text_reader.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua::testing {

inline KvCache direct_prefill(const CausalLM& model, const TextReader& reader,
                              const std::vector<int32_t>& ids) {
  std::vector<int64_t> row = reader.before;
  row.insert(row.end(), ids.begin(), ids.end());
  const KvCache cache = model.prefill(TokenBatch::from_rows({row})).cache.unrotated();
  return cache.slice(reader.prefix_length(), cache.tokens());
}

}  // namespace kvlingua::testing
