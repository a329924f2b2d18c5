// From RidgeSums to the ridge map: choice of source layers, choice of lambda on held-out sums, and
// the solution.
//
// On standardised channels, with C the correlation matrix of the features and P their correlation
// with the targets:
//   W = (C + lambda * trace(C) / F * I)^-1 P
// The held-out error of every lambda follows from one eigendecomposition of C (in its basis only a
// diagonal changes) and the held-out sums. Each target layer's keys and values choose their own
// lambda. The map itself is then solved on all data by Cholesky; where that fails (a lambda far
// below the rounding of C) by clipped eigenvalues, and a note says so.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/block_linear.h"
#include "kvlingua/projector/ridge_sums.h"
#include "kvlingua/projector/statistics.h"

namespace kvlingua {

struct RidgeSolution {
  BlockPlan plan;
  at::Tensor weight;  // [groups, in, out] float32, standardised source to standardised target
  at::Tensor bias;    // [groups, 1, out] float32; what rounding the means to float32 left over
  ChannelStatistics source, target;
  // [2, target layers] float64: mean over the heads when each head chose its own
  at::Tensor lambda;
  at::Tensor heldout_r2;  // [2, target layers] float64, against the training mean; undefined
                          // without held-out sums
  std::vector<std::string> notes;  // what a reader of the log should know
};

// `heldout` may be null or empty: then options.lambda must hold one value. Throws Error: kInput
// when there is too little data to have a variance, kUsage when several lambdas are given and
// nothing is held out.
RidgeSolution solve_ridge(const RidgeSums& train, const RidgeSums* heldout,
                          const RidgeOptions& options);

// Source layers [2, Lt, k] at the same relative depth as each target layer, nearest first.
at::Tensor aligned_layers(int64_t source_layers, int64_t target_layers, int64_t k);

}  // namespace kvlingua
