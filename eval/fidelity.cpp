#include "eval/fidelity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace kvlingua {

namespace {

// [L, 1, H, T, D] -> [L, H, T, D] in float64.
at::Tensor plain(const at::Tensor& t) { return t.select(1, 0).to(at::kDouble); }

void accumulate(at::Tensor& total, const at::Tensor& part) {
  total = total.defined() ? total + part : part;
}

at::Tensor cosine(const at::Tensor& a, const at::Tensor& b) {
  return (a * b).sum(-1) / (a.norm(2, -1) * b.norm(2, -1)).clamp_min(1e-12);
}

void add_gram(at::Tensor& gram, at::Tensor& sum, const at::Tensor& cache_LHTD) {
  const at::Tensor rows = cache_LHTD.transpose(1, 2).flatten(2);  // [L, T, H * D]
  accumulate(gram, rows.transpose(1, 2).matmul(rows));
  accumulate(sum, rows.sum(1));
}

at::Tensor ranks(const at::Tensor& gram, const at::Tensor& sum, int64_t n) {
  const at::Tensor mean = sum / static_cast<double>(n);
  return effective_rank(gram / static_cast<double>(n) - mean.unsqueeze(2) * mean.unsqueeze(1));
}

std::vector<double> numbers_of(const at::Tensor& t) {
  const at::Tensor flat = t.to(at::kCPU, at::kDouble).contiguous().view({-1});
  const double* first = flat.const_data_ptr<double>();
  return {first, first + flat.numel()};
}

double item(const at::Tensor& t, int64_t layer) { return t[layer].item<double>(); }

}  // namespace

at::Tensor effective_rank(const at::Tensor& covariance) {
  const at::Tensor values = at::linalg_eigvalsh(covariance.to(at::kCPU, at::kDouble)).clamp_min(0);
  const at::Tensor total = values.sum(-1, true);
  const at::Tensor share = values / total.clamp_min(1e-300);
  const at::Tensor entropy = -(share * share.clamp_min(1e-300).log()).sum(-1);
  return at::where(total.squeeze(-1) > 0, entropy.exp(), at::zeros_like(entropy));
}

at::Tensor attention_outputs(const at::Tensor& queries, const KvCache& cache) {
  const at::Tensor q = queries.select(1, 0).to(at::kFloat);
  const int64_t groups = q.size(1) / cache.kv_heads();
  const auto spread = [&](const at::Tensor& t) {
    return t.select(1, 0).to(at::kFloat).repeat_interleave(groups, 1);
  };
  const at::Tensor k = spread(cache.keys()), v = spread(cache.values());
  const at::Tensor scores =
      q.matmul(k.transpose(-1, -2)) / std::sqrt(static_cast<double>(cache.head_dim()));
  return at::softmax(scores, -1).matmul(v);
}

FidelityMeter::FidelityMeter(const std::map<std::string, NamedProjector>& projectors,
                             const KvShape& target, int64_t items)
    : projectors_(projectors), shape_(target), items_(items) {}

void FidelityMeter::add(Block& block) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < block.size() && !full(); ++i, ++seen_) {
    const KvCache own = block.own(i).unrotated(), read = block.read_by_source(i).unrotated();
    for (int which : {0, 1}) {
      add_gram(own_gram_[which], own_sum_[which], plain(which == 0 ? own.keys() : own.values()));
      add_gram(source_gram_[which], source_sum_[which],
               plain(which == 0 ? read.keys() : read.values()));
    }
    own_tokens_ += own.tokens();
    source_tokens_ += read.tokens();
    for (const auto& [name, named] : projectors_)
      add_item(measured_[name], block, i, block.translated(name, *named.projector, i));
  }
}

void FidelityMeter::add_item(Measured& measured, Block& block, size_t i,
                             const KvCache& translated) const {
  const KvCache truth = block.own(i).unrotated(), made = translated.unrotated();
  for (int which : {0, 1}) {
    const at::Tensor wanted = plain(which == 0 ? truth.keys() : truth.values());
    const at::Tensor got = plain(which == 0 ? made.keys() : made.values()).to(wanted.device());
    Side& side = measured.side[which];
    accumulate(side.sum, wanted.sum(2));
    accumulate(side.square, wanted.square().sum(2));
    accumulate(side.error, (got - wanted).square().sum(2));
    accumulate(side.cosine, cosine(got, wanted).sum(2));
    accumulate(side.relative,
               ((got - wanted).norm(2, -1) / wanted.norm(2, -1).clamp_min(1e-12)).sum(2));
    add_gram(measured.gram[which], measured.gram_sum[which], got);
  }
  measured.tokens += truth.tokens();

  // The question, read by the target after its own cache: its queries, and its residual stream
  // beside that after the other cache.
  const Reader& target = block.target();
  const KvCache own_past = KvCache::concat(target.prefix, block.own(i)),
                other_past = KvCache::concat(target.prefix, translated);
  PrefillOptions options;
  options.want_cache = false;
  options.want_queries = options.want_hidden = true;
  const TokenBatch question = TokenBatch::from_rows({block.item(i).rest});
  const PrefillResult full = target.model->prefill(question, &own_past, options);
  options.want_queries = false;
  const PrefillResult other = target.model->prefill(question, &other_past, options);
  accumulate(measured.attention_cosine, cosine(attention_outputs(full.queries, own_past),
                                               attention_outputs(full.queries, other_past))
                                            .mean({1, 2})
                                            .to(at::kDouble));
  const at::Tensor a = full.hidden.slice(0, 1).select(1, 0).to(at::kDouble),
                   b = other.hidden.slice(0, 1).select(1, 0).to(at::kDouble);
  accumulate(measured.hidden_drift, ((b - a).norm(2, -1) / a.norm(2, -1).clamp_min(1e-12)).mean(1));
  ++measured.items;
}

ConditionFidelity FidelityMeter::numbers_of(const std::string& name, const Measured& m) const {
  const double n = static_cast<double>(m.tokens), items = static_cast<double>(m.items);
  at::Tensor r2[2], head_r2[2], cos[2], error[2], rank[2];
  for (int which : {0, 1}) {
    const Side& side = m.side[which];
    const at::Tensor total = side.square - side.sum.square() / n;  // [L, H, D]
    head_r2[which] = 1 - side.error.sum(2) / total.sum(2).clamp_min(1e-300);
    r2[which] = 1 - side.error.sum({1, 2}) / total.sum({1, 2}).clamp_min(1e-300);
    cos[which] = side.cosine / n;
    error[which] = side.relative / n;
    rank[which] = ranks(m.gram[which], m.gram_sum[which], m.tokens);
  }
  ConditionFidelity result{.name = name};
  for (int64_t l = 0; l < shape_.layers; ++l) {
    LayerFidelity layer;
    layer.layer = l;
    for (int64_t h = 0; h < shape_.kv_heads; ++h) {
      const auto head = [&](const at::Tensor& t) { return t[l][h].item<double>(); };
      layer.heads.push_back({head(head_r2[0]), head(head_r2[1]), head(cos[0]), head(cos[1]),
                             head(error[0]), head(error[1])});
    }
    layer.key_r2 = item(r2[0], l);
    layer.value_r2 = item(r2[1], l);
    layer.key_cosine = item(cos[0].mean(1), l);
    layer.value_cosine = item(cos[1].mean(1), l);
    layer.key_error = item(error[0].mean(1), l);
    layer.value_error = item(error[1].mean(1), l);
    layer.attention_output_cosine = item(m.attention_cosine / items, l);
    layer.hidden_drift = item(m.hidden_drift / items, l);
    layer.key_effective_rank = item(rank[0], l);
    layer.value_effective_rank = item(rank[1], l);
    result.layers.push_back(std::move(layer));
  }
  const auto mean = [](const at::Tensor& t) { return t.mean().item<double>(); };
  result.mean.key_r2 = mean(r2[0]);
  result.mean.value_r2 = mean(r2[1]);
  result.mean.key_cosine = mean(cos[0]);
  result.mean.value_cosine = mean(cos[1]);
  result.mean.attention_output_cosine = mean(m.attention_cosine / items);
  result.mean.hidden_drift = mean(m.hidden_drift / items);
  return result;
}

std::optional<Fidelity> FidelityMeter::numbers(const std::string& gated) const {
  if (measured_.empty()) return std::nullopt;
  const auto own = [&](int which) {
    return kvlingua::numbers_of(ranks(own_gram_[which], own_sum_[which], own_tokens_));
  };
  const auto source = [&](int which) {
    return kvlingua::numbers_of(ranks(source_gram_[which], source_sum_[which], source_tokens_));
  };
  Fidelity result{.condition = measured_.contains(gated) ? gated : measured_.begin()->first,
                  .items = seen_,
                  .source_key_ranks = source(0),
                  .source_value_ranks = source(1),
                  .own_key_ranks = own(0),
                  .own_value_ranks = own(1)};
  for (const auto& [name, measured] : measured_)
    result.conditions.push_back(numbers_of(name, measured));
  return result;
}

}  // namespace kvlingua
