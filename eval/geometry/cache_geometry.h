// What a cache looks like without asking what it says: norms, means, deviations, effective rank and
// spectral entropy of the keys and values of each layer.
//
// Keys are taken as they are cached (rotated), values raw; all figures on float32 copies. Rank and
// entropy see a layer as the matrix [kv_heads * tokens, head_dim], not centred: p = s^2 / sum(s^2)
// over its m = min(rows, columns) singular values, effective rank = #(cumulative p < 0.9) + 1,
// entropy = -sum p log2 p / log2 m. (`inspect` prints another rank: of [tokens, kv_heads *
// head_dim].) The eigenvalues of the head_dim x head_dim Gram matrix in float64 are the squares of
// the singular values, so no decomposition of the long matrix is needed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/cache/kv_cache.h"

namespace kvlingua {

// Of the keys or of the values: one number a layer.
struct SideGeometry {
  std::vector<double> norm;       // Frobenius
  std::vector<double> mean;       // over all entries
  std::vector<double> deviation;  // over all entries, n - 1
  std::vector<double> rank;       // whole numbers
  std::vector<double> entropy;    // in [0, 1]; 0 where there is one singular value
};

struct CacheGeometry {
  SideGeometry keys, values;
  int64_t layers() const { return static_cast<int64_t>(keys.norm.size()); }
  bool finite() const;
};

// One for each row of the batch; padding does not count.
std::vector<CacheGeometry> geometry_of(const KvCache& cache);

double total(const std::vector<double>& by_layer);
double mean(const std::vector<double>& by_layer);
double population_variance(const std::vector<double>& by_layer);

}  // namespace kvlingua
