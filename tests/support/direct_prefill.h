// What a pair set must hold of one sample: the span's entries of a prefill of prefix and span
// alone.
#pragma once

#include <cstdint>
#include <vector>

#include "datasets/generation/sample_builder.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua::testing {

inline KvCache direct_prefill(const CausalLM& model, const SpanReader& reader,
                              const std::vector<int32_t>& ids) {
  std::vector<int64_t> row = reader.prefix_ids;
  row.insert(row.end(), ids.begin(), ids.end());
  const KvCache cache = model.prefill(TokenBatch::from_rows({row})).cache.unrotated();
  return cache.slice(static_cast<int64_t>(reader.prefix_ids.size()), cache.tokens());
}

}  // namespace kvlingua::testing
