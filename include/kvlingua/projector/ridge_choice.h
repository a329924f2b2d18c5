// Which of the gathered source layers, at the aligned token or at one before it, a ridge map reads
// when it may read only so many: greedy forward choice on the sums alone (orthogonal forward
// selection by blocks, after Chen, Billings and Luo 1989).
//
// A block is one layer of a source row, its keys and values where both are read. Each round takes
// the block whose own map of what is left of the targets lowers the held-out error most, over all
// target layers, and takes its part out of every other block and of the targets. So what two layers
// have in common is counted once.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace kvlingua {

// Sums of one problem in standard units, per observation: features with features [F, F], features
// with targets [F, G], targets with themselves [G].
struct RidgeMoments {
  at::Tensor c, p, y;
};

struct BlockChoice {
  std::vector<int64_t> blocks;  // in the order they were taken
  std::vector<double> r2;       // held-out R2 of all targets after each
};

// `fit` and `judge` hold one entry a problem, the same blocks in each; the moments of `judge` are
// about the fitted means. A problem's features are `parts` runs (keys, values) of blocks of `width`
// channels. `lambda` as in ridge_solve.h.
BlockChoice choose_blocks(const std::vector<RidgeMoments>& fit,
                          const std::vector<RidgeMoments>& judge, int64_t width, int64_t parts,
                          int64_t budget, double lambda);

}  // namespace kvlingua
