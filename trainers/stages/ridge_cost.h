// Operations of a ridge stage by kind: what its time is computed from, since the solution grows
// with sizes that a small run does not have.
#pragma once

#include "kvlingua/cost/stage_cost.h"

namespace kvlingua {

struct RidgeWork {
  double gather = 0;                 // float32 products
  double product = 0, cholesky = 0;  // of the solution, float64
  double moved = 0;                  // bytes read and written by scaling the sums
  double fresh = 0;                  // bytes of copies of them
  double kept = 0;                   // bytes of the sums that are written
  double solve_seconds(const MachineNumbers& machine) const;
};
// With `rows` gathered.
RidgeWork ridge_work(const RidgeOptions& ridge, const KvShape& source, const KvShape& target,
                     double rows);

StageCost ridge_cost();

}  // namespace kvlingua
