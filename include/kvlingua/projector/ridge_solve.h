// From RidgeSums to the ridge map: choice of source layers, choice of lambda on held-out sums, and
// the solution.
//
// On standardised channels, with C the correlation matrix of the features and P their correlation
// with the targets:
//   W = (C + lambda * trace(C) / F * I)^-1 P
// solved by Cholesky for each lambda on the training sums and judged on the held-out sums. Each
// target layer's keys and values choose their own lambda;
// the map itself is then solved on all data.
//
// A least-squares prediction is a conditional mean: where the target's channel lies d from its
// mean, the prediction lies r d from it on average, r = cov(yhat, y) / var(y), which is R2
// (regression dilution). Errors of many tokens and layers cancel when the target attends to them,
// this shortening does not. options.gain g scales each channel about its mean by r^-g, r taken on
// the held-out rows (on the fitted ones where none are): g = 1/2 varies as the target does
// (inflated regression), g = 1 is unbiased (the correction for attenuation).
// The squared error grows by it.
//
// Where Cholesky fails (a lambda far below the rounding of C) eigenvalues are clipped instead, and
// a note says so.
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
  // What tells whether there were rows enough, with held-out sums; [2, target layers] float64. The
  // fitted rows' own R2, and what the held-out one would be with twice the rows: of a linear map of
  // p features to n rows the error is e (1 - p/n) on its own rows and e (1 + p/n) on others.
  at::Tensor fitted_r2, doubled_r2;
  at::Tensor gain;  // [2, target layers] float64: mean factor of its channels; undefined without
  // With a budget: the layers of a source row that are read, in the order they were chosen, and the
  // held-out R2 of all channels after each, of the maps that chose them.
  std::vector<int64_t> chosen;
  std::vector<double> choice_r2;
  int64_t rows = 0, features = 0;  // all rows; features of one target channel
  double rows_per_feature() const {
    return features > 0 ? static_cast<double>(rows) / static_cast<double>(features) : 0;
  }
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
