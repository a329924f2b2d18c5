// Fidelity: how close a translated cache comes to the target's own, layer by layer and head by
// head.
//
//   key/value R2      centred per channel: 1 - SSE / SST; keys un-rotated. 0: as the mean
//   cosine, error     of whole head vectors, mean over tokens; relative L2 error
//   attention cosine  of attention outputs that the target's own queries get from either cache
//   hidden drift      relative L2 distance of the residual stream while the question is read
//   effective rank    exp(entropy) of the covariance spectrum (Roy & Vetterli 2007) of source,
//                     translated and own caches
// None of these gates anything: R2 does not predict behaviour. Sums are kept in float64 over the
// first blocks of a run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "eval/conditions/list.h"
#include "eval/items/block.h"
#include "eval/report/report.h"

namespace kvlingua {

class FidelityMeter {
 public:
  // `items`: how many are enough.
  FidelityMeter(const std::map<std::string, NamedProjector>& projectors, const KvShape& target,
                int64_t items = 96);
  int64_t seen() const { return seen_; }
  bool full() const { return seen_ >= items_ || projectors_.empty(); }
  void add(Block& block);
  // None when nothing was measured.
  std::optional<Fidelity> numbers(const std::string& gated) const;

 private:
  // Of one kind (keys or values): [L, H, D] sums but counts.
  struct Side {
    at::Tensor sum, square, error;  // of the truth, of its square, of the squared difference
    at::Tensor cosine, relative;    // [L, H], summed over tokens
  };
  struct Measured {
    Side side[2];
    at::Tensor attention_cosine, hidden_drift;  // [L]; summed over items
    at::Tensor gram[2], gram_sum[2];            // of the translated cache: [L, W, W], [L, W]
    int64_t tokens = 0, items = 0;
  };
  void add_item(Measured& measured, Block& block, size_t i, const KvCache& translated) const;
  ConditionFidelity numbers_of(const std::string& name, const Measured& m) const;

  std::map<std::string, NamedProjector> projectors_;
  KvShape shape_;
  int64_t items_, seen_ = 0, own_tokens_ = 0, source_tokens_ = 0;
  std::map<std::string, Measured> measured_;
  at::Tensor own_gram_[2], own_sum_[2], source_gram_[2], source_sum_[2];
};

// exp of the entropy of the normalised eigenvalues of a covariance [..., W, W]; a zero covariance
// has rank 0.
at::Tensor effective_rank(const at::Tensor& covariance);

// Attention outputs [L, Hq, Tq, D] of queries [L, 1, Hq, Tq, D] over a cache [L, 1, H, T, D],
// without the queries' own tokens.
at::Tensor attention_outputs(const at::Tensor& queries, const KvCache& cache);

}  // namespace kvlingua
