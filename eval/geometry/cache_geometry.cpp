#include "eval/geometry/cache_geometry.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace kvlingua {

namespace {

std::vector<double> host(const at::Tensor& values) {
  const at::Tensor t = values.to(at::kCPU, at::kDouble).contiguous();
  return {t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel()};
}

// Of one layer for all rows of the batch: Gram matrices [B, D, D] and sums [B], padding zeroed.
struct LayerSums {
  at::Tensor gram, sum;
};
LayerSums sums_of(const at::Tensor& layer_BHTD, const at::Tensor& mask_B1T1) {
  at::Tensor x = layer_BHTD.to(at::kFloat).to(at::kDouble);
  if (mask_B1T1.defined()) x = x.masked_fill(mask_B1T1.logical_not(), 0.0);
  const at::Tensor rows = x.reshape({x.size(0), -1, x.size(3)});
  return {rows.transpose(1, 2).bmm(rows), rows.sum(at::IntArrayRef{1, 2})};
}

void measure(const at::Tensor& side_LBHTD, const at::Tensor& mask, const at::Tensor& tokens_B,
             SideGeometry CacheGeometry::*side, std::vector<CacheGeometry>& out) {
  const int64_t layers = side_LBHTD.size(0), batch = side_LBHTD.size(1), heads = side_LBHTD.size(2),
                width = side_LBHTD.size(4);
  std::vector<at::Tensor> grams, totals;
  for (int64_t l = 0; l < layers; ++l) {
    LayerSums sums = sums_of(side_LBHTD[l], mask);
    grams.push_back(std::move(sums.gram));
    totals.push_back(std::move(sums.sum));
  }
  const at::Tensor gram = at::stack(grams).to(at::kCPU), sum = at::stack(totals).to(at::kCPU);
  const at::Tensor squares = gram.diagonal(0, 2, 3).sum(-1);
  const at::Tensor entries = tokens_B.to(at::kDouble) * static_cast<double>(heads * width);
  const at::Tensor average = sum / entries;
  const at::Tensor deviation = ((squares - sum * average) / (entries - 1)).clamp_min(0).sqrt();

  // A cache that is not finite has no eigenvalues; its norm says so already.
  const at::Tensor usable = gram.isfinite().all(-1).all(-1).unsqueeze(-1).unsqueeze(-1);
  const at::Tensor safe = at::where(usable, gram, at::zeros_like(gram));
  const at::Tensor energy = at::linalg_eigvalsh(safe).flip(-1).clamp_min(0);
  const at::Tensor share = energy / energy.sum(-1, true).clamp_min(1e-300);
  const at::Tensor limit = (tokens_B * heads).clamp_max(width);
  const at::Tensor rank = ((share.cumsum(-1) < 0.9).sum(-1) + 1).minimum(limit);
  const at::Tensor bits = -at::special_xlogy(share, share).sum(-1) / std::log(2.0);
  const at::Tensor most = limit.to(at::kDouble).log2();
  const at::Tensor entropy = at::where(most > 0, bits / most.clamp_min(1e-9), at::zeros_like(bits));
  for (int64_t b = 0; b < batch; ++b) {
    const auto column = [&](const at::Tensor& LB) { return host(LB.select(1, b)); };
    out[static_cast<size_t>(b)].*side = {column(squares.sqrt()), column(average), column(deviation),
                                         column(rank), column(entropy)};
  }
}

bool all_finite(const SideGeometry& side) {
  for (const auto* values : {&side.norm, &side.mean, &side.deviation, &side.entropy})
    for (const double v : *values)
      if (!std::isfinite(v)) return false;
  return true;
}

}  // namespace

bool CacheGeometry::finite() const { return all_finite(keys) && all_finite(values); }

std::vector<CacheGeometry> geometry_of(const KvCache& cache) {
  const at::NoGradGuard no_grad;
  at::Tensor mask, tokens = at::full({cache.batch()}, cache.tokens(), at::kLong);
  if (cache.mask().defined()) {
    tokens = cache.mask().sum(1).to(at::kCPU, at::kLong);
    mask = cache.mask().to(cache.keys().device()).unsqueeze(1).unsqueeze(-1);
  }
  std::vector<CacheGeometry> out(static_cast<size_t>(cache.batch()));
  measure(cache.keys(), mask, tokens, &CacheGeometry::keys, out);
  measure(cache.values(), mask, tokens, &CacheGeometry::values, out);
  return out;
}

double total(const std::vector<double>& by_layer) {
  double sum = 0;
  for (const double v : by_layer) sum += v;
  return sum;
}

double mean(const std::vector<double>& by_layer) {
  return by_layer.empty() ? 0 : total(by_layer) / static_cast<double>(by_layer.size());
}

double population_variance(const std::vector<double>& by_layer) {
  const double centre = mean(by_layer);
  double sum = 0;
  for (const double v : by_layer) sum += (v - centre) * (v - centre);
  return by_layer.empty() ? 0 : sum / static_cast<double>(by_layer.size());
}

}  // namespace kvlingua
