// What a source row holds of the tokens before its own: how many, and by which layers.
//
// A row of a model of L layers then has tokens * layers more (rows_of()): layer
// L + (j - 1) * layers + i holds layer layers[i] of the token j before.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlingua/cache/kv_shape.h"

namespace kvlingua {

struct PreviousTokens {
  int64_t tokens = 0;
  std::vector<int64_t> layers = {0};

  // Layers that a row has more.
  int64_t count() const { return tokens * static_cast<int64_t>(layers.size()); }
  bool operator==(const PreviousTokens&) const = default;
};

// The shape of rows with previous tokens of a model of this shape.
inline KvShape row_shape(const KvShape& model, const PreviousTokens& previous) {
  return {model.layers + previous.count(), model.kv_heads, model.head_dim};
}

}  // namespace kvlingua
