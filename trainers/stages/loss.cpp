#include "trainers/stages/loss.h"

#include <ATen/ATen.h>

namespace kvlingua {
namespace {

// Mean over the rows that count of one number a row.
at::Tensor masked_mean(const at::Tensor& by_row, const at::Tensor& row_mask) {
  if (!row_mask.defined()) return by_row.mean();
  const at::Tensor weight = row_mask.to(by_row.device(), by_row.scalar_type());
  return (by_row * weight).sum() / weight.sum().clamp_min(1);
}

at::Tensor one_error(const at::Tensor& predicted, const at::Tensor& target,
                     const at::Tensor& deviation, const at::Tensor& row_weights) {
  const at::Tensor difference = (predicted - target.to(predicted.scalar_type())) / deviation;
  if (!row_weights.defined()) return difference.square().mean();
  return masked_mean(difference.square().flatten(1).mean(1), row_weights);
}

}  // namespace

NormalisedError normalised_error(const CacheRows& predicted, const CacheRows& target,
                                 const ChannelStatistics& statistics,
                                 const at::Tensor& row_weights) {
  return {
      one_error(predicted.keys_NLHD, target.keys_NLHD, statistics.deviation[0], row_weights),
      one_error(predicted.values_NLHD, target.values_NLHD, statistics.deviation[1], row_weights)};
}

at::Tensor attention_outputs(const AttentionContext& context, const CacheRows& rows) {
  const at::Tensor& positions = context.positions_BT;
  const KvCache cache =
      cache_of(rows, positions, context.mask_BT).rotated_to(context.rope, positions);
  const int64_t layers = cache.layers(), batch = cache.batch(), tokens = cache.tokens();
  const at::Tensor queries = rope_rotate(context.queries_LBHTD.to(cache.keys().scalar_type()),
                                         rope_tables(context.rope, positions));
  // [B, T, T]: a query sees keys at its own position and before.
  at::Tensor visible = positions.unsqueeze(1) <= positions.unsqueeze(2);
  if (context.mask_BT.defined()) visible = visible.logical_and(context.mask_BT.unsqueeze(1));
  // Padding sees itself, so that no softmax is empty.
  visible = visible.logical_or(at::eye(tokens, visible.options()));
  visible = visible.view({1, batch, 1, tokens, tokens}).expand({layers, batch, 1, tokens, tokens});
  const at::Tensor out = at::scaled_dot_product_attention(
      queries.flatten(0, 1), cache.keys().flatten(0, 1), cache.values().flatten(0, 1),
      visible.flatten(0, 1), 0.0, false, std::nullopt, /*enable_gqa=*/true);
  return out.view({layers, batch, out.size(1), tokens, out.size(3)});
}

at::Tensor attention_error(const AttentionContext& context, const CacheRows& predicted,
                           const CacheRows& target) {
  const at::Tensor got = attention_outputs(context, predicted);
  const at::Tensor expected =
      attention_outputs(context, target.to(got.device(), got.scalar_type())).detach();
  at::Tensor error = (got - expected).square(), scale = expected.square();
  if (context.mask_BT.defined()) {
    const at::Tensor& mask = context.mask_BT;
    const at::Tensor weight =
        mask.view({1, mask.size(0), 1, mask.size(1), 1}).to(error.scalar_type());
    error = error * weight;
    scale = scale * weight;
  }
  return (error.flatten(1).sum(1) / scale.flatten(1).sum(1).clamp_min(1e-12)).mean();
}

at::Tensor distillation_kl(const at::Tensor& student_NV, const at::Tensor& teacher_NV,
                           double temperature) {
  const at::Tensor student = at::log_softmax(student_NV.to(at::kFloat) / temperature, -1);
  const at::Tensor teacher = at::log_softmax(teacher_NV.detach().to(at::kFloat) / temperature, -1);
  const at::Tensor by_row = (teacher.exp() * (teacher - student)).sum(-1);
  return by_row.mean() * (temperature * temperature);
}

at::Tensor mean_cosine(const at::Tensor& predicted, const at::Tensor& target,
                       const at::Tensor& row_mask) {
  const at::Tensor cosine =
      at::cosine_similarity(predicted.to(at::kFloat), target.to(at::kFloat), -1, 1e-8);
  return masked_mean(cosine.flatten(1).mean(1), row_mask);
}

}  // namespace kvlingua
