// Does a projector keep the shape of what it translates? Effective ranks of the target's own caches
// against those of the translated ones, over the same texts.
//
// The rank of a cache grows with its length, so any two caches of the same texts correlate: beside
// the plain rank correlation stands the partial one, with the number of tokens held fixed, and the
// verdict is its interval's (texts resampled): kept when it lies above .7, not kept when it lies
// below, else undecided.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/items/reader.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/text/alignment.h"

namespace kvlingua {

// Both caches of each text: mean over layers of the effective rank (cache_geometry.h).
struct KeptRanks {
  std::vector<double> tokens;
  std::vector<double> native_keys, translated_keys, native_values, translated_values;
  std::vector<std::string> failed;  // texts that do not fit, one line each
};
KeptRanks kept_ranks(const Reader& source, const Reader& target, const Projector& projector,
                     AlignmentKind alignment, const std::vector<std::string>& texts,
                     int64_t batch_size);

struct KeptOptions {
  int64_t draws = 2000;
  double confidence = 0.95;
  uint64_t seed = 0;
  double threshold = 0.7;
};
// {n, keys: {native_mean, translated_mean, rho, rho_length_free: {estimate, low, high}, verdict},
// values: ...}; {error} below four texts.
nlohmann::ordered_json judge_kept(const KeptRanks& ranks, const KeptOptions& options);

}  // namespace kvlingua
