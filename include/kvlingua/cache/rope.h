// Rotary position embedding (RoPE, Su et al. 2021) as Hugging Face's Qwen2, Qwen3 and Llama apply
// it.
//
// The head is split in halves: x = [a, b], and (a, b) -> (a cos - b sin, b cos + a sin) with one
// angle position * inv_freq[i] for each pair (a_i, b_i). Keys and queries are rotated, values never
// are. Rotation by p and then by q is rotation by p + q, so a key can be un-rotated (by -p) and
// re-rotated (by q) without the model.
//
// Scaled types (linear, llama3, yarn) only change inv_freq; yarn also multiplies cos and sin by
// attention_factor, so un-rotation divides by it. Formulas: transformers/modeling_rope_utils.py.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlingua/cache/rope_spec.h"

namespace kvlingua {

// inv_freq of the head_dim / 2 channel pairs, float32 on the CPU, computed in float32 as
// transformers does: at position 30,000 a double computation would differ from the reference by
// 1e-3.
at::Tensor inverse_frequencies(const RopeSpec& spec);

// cos and sin of every position, float32, [positions..., head_dim / 2], on the device of
// `positions` (integer tensor). attention_factor is already multiplied in.
struct RopeTables {
  at::Tensor cos;
  at::Tensor sin;
};
RopeTables rope_tables(const RopeSpec& spec, const at::Tensor& positions);

// Rotates x [..., H, T, D] with tables [T, D/2] or [B, T, D/2] (then x is [..., B, H, T, D]).
// Computed in float32 for half types and rounded once. Differentiable with respect to x.
at::Tensor rope_rotate(const at::Tensor& x, const RopeTables& tables);

// The inverse of rope_rotate with the same tables (attention_factor divided out).
at::Tensor rope_unrotate(const at::Tensor& x, const RopeTables& tables, const RopeSpec& spec);

// Tables with which rope_rotate is that inverse.
RopeTables unrotation_tables(const RopeSpec& spec, const RopeTables& tables);
RopeTables unrotation_tables(const RopeSpec& spec, const at::Tensor& positions);

}  // namespace kvlingua
