// The ridge stage: one pass over the pairs into sums, then the closed-form solution.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/ridge_solve.h"
#include "kvlingua/projector/ridge_sums.h"
#include "trainers/engine/batch_source.h"

namespace kvlingua {

struct RidgeSumsPair {
  RidgeSums train, heldout;
};

// Whether a sample chooses lambda and layers instead of being fitted: a fixed hash, so that parts
// gathered apart agree.
bool held_out_sample(int64_t sample_id, double share);

// Which of the rows of a pass are added.
enum class RidgeRows { kAll, kFitted, kHeldOut };

// Adds every batch that is left in `source`. `progress(rows)` after each batch; it may throw to
// stop. The memory is that of the sums and one batch, whatever the number of rows.
void gather_ridge_sums(BatchSource& source, const RidgeOptions& options, RidgeSumsPair& sums,
                       const std::function<void(int64_t rows)>& progress = {},
                       RidgeRows which = RidgeRows::kAll);

// Empty sums for this pair. Throws Error (kDevice) naming the bytes needed and what would fit when
// they exceed `available_bytes` (0: not checked).
RidgeSumsPair make_ridge_sums(const KvShape& source, const KvShape& target,
                              const RidgeOptions& options, at::Device device,
                              uint64_t available_bytes = 0);

}  // namespace kvlingua
