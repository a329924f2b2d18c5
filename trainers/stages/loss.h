// Losses of the projector trainers. All are float32 scalars, differentiable with respect to the
// prediction.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/statistics.h"
#include "trainers/engine/batch_source.h"

namespace kvlingua {

// Mean squared error in units of each channel's variance, so that every layer, head and channel
// counts alike: 1 is what predicting the mean scores, 0 is perfect.
struct NormalisedError {
  at::Tensor keys, values;
};
// `row_weights` [N]: what a row counts, bool (rows that count at all) or numbers whose sum is 1;
// undefined: all alike.
NormalisedError normalised_error(const CacheRows& predicted, const CacheRows& target,
                                 const ChannelStatistics& statistics,
                                 const at::Tensor& row_weights = {});

// What the target's attention makes of these keys and values with its own queries, before the
// output projection: [L, B, query_heads, T, D]. Causal by position; padding is not attended to.
at::Tensor attention_outputs(const AttentionContext& context, const CacheRows& rows);
// Squared difference of two attention outputs relative to the square of the true one, mean over
// layers.
at::Tensor attention_error(const AttentionContext& context, const CacheRows& predicted,
                           const CacheRows& target);

// Mean over rows of KL(teacher || student) at this temperature, times its square (Hinton et al.
// 2015). Logits [N, vocabulary]; the teacher's are constants.
at::Tensor distillation_kl(const at::Tensor& student_NV, const at::Tensor& teacher_NV,
                           double temperature);

// Mean cosine of predicted and true vectors over rows, layers and heads: a scalar tensor.
at::Tensor mean_cosine(const at::Tensor& predicted_NLHD, const at::Tensor& target_NLHD,
                       const at::Tensor& row_mask = {});

}  // namespace kvlingua
