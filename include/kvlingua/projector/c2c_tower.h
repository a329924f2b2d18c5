// All towers of a C2CFuser (c2c_fuser.h has the network): from the inputs to the projection and the
// scores. Two forms of the same function: plain batched operations for any device and type, and for
// float32 on the CPU a hand-written one that runs one tower a thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace kvlingua {

struct TowerBlock {
  at::Tensor norm, w1, w2;  // [G, H], [G, I, H], [G, H, I]
};

struct TowerStack {
  at::Tensor in_weight, in_bias;          // [G, H, C], [G, H]
  TowerBlock common, scalar;              // scalar: undefined without scores
  at::Tensor scalar_weight, scalar_bias;  // [G, heads, H], [G, heads]
  std::vector<TowerBlock> projection;
  at::Tensor out_weight, out_bias;  // [G, channels, H], [G, channels]
};

struct TowerOutput {
  at::Tensor projected;  // [G, N, channels]
  at::Tensor score;      // [G, N, heads], before the sigmoid; undefined without
};

// x [G, N, C]. dropout 0: none. Differentiable. The hand-written form adds a weight's gradient
// straight into its grad() where that is defined (FlatAdamW has it so), instead of handing it to
// autograd, which saves a pass over all weights.
//
// `recompute`: nothing but x is kept for the way back; what was done with it is done again there, a
// part of the towers at a time (Chen et al., arXiv 1604.06174). The hand-written form gives the
// same bits either way; the plain one then draws its dropout group by group.
TowerOutput run_towers(const TowerStack& stack, const at::Tensor& x, double dropout,
                       bool recompute = false);
TowerOutput run_towers_formula(const TowerStack& stack, const at::Tensor& x, double dropout);
// The plain form, recomputed.
TowerOutput run_towers_in_groups(const TowerStack& stack, const at::Tensor& x, double dropout);

}  // namespace kvlingua
