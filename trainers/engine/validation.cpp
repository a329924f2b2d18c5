#include "trainers/engine/validation.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "trainers/stages/loss.h"

namespace kvlingua {
namespace {

// [layers] as numbers.
std::vector<double> list(const at::Tensor& values) {
  const at::Tensor here = values.to(at::kCPU, at::kDouble).contiguous();
  return {here.const_data_ptr<double>(), here.const_data_ptr<double>() + here.numel()};
}

at::Tensor row_weights(const TrainBatch& batch) {
  const at::Tensor ones =
      at::ones({batch.rows()}, batch.target.keys_NLHD.options().dtype(at::kDouble));
  return batch.row_mask.defined() ? batch.row_mask.to(at::kDouble) : ones;
}

}  // namespace

// Sums over all held-out rows, [2 (K, V), layers].
struct Validation::Scores {
  at::Tensor error, variance, cosine;
  double rows = 0;
  at::Tensor attention;  // [layers] sum of cosines
  double attention_rows = 0;

  RowScores overall() const;
  std::vector<RowScores> per_layer() const;
};

RowScores Validation::Scores::overall() const {
  const auto r2 = [&](int64_t part) {
    return 1 - (error[part].sum() / variance[part].sum()).item<double>();
  };
  const at::Tensor cos = cosine / rows;
  RowScores out{.key_r2 = r2(0),
                .value_r2 = r2(1),
                .key_cosine = cos[0].mean().item<double>(),
                .value_cosine = cos[1].mean().item<double>()};
  if (attention.defined())
    out.attention_output_cosine = (attention / attention_rows).mean().item<double>();
  return out;
}

std::vector<RowScores> Validation::Scores::per_layer() const {
  const at::Tensor r2 = 1 - error / variance.clamp_min(1e-30), cos = cosine / rows;
  const auto keys = list(r2[0]), values = list(r2[1]), key_cos = list(cos[0]),
             value_cos = list(cos[1]);
  std::vector<RowScores> out;
  for (size_t l = 0; l < keys.size(); ++l)
    out.push_back({.key_r2 = keys[l],
                   .value_r2 = values[l],
                   .key_cosine = key_cos[l],
                   .value_cosine = value_cos[l]});
  if (attention.defined()) {
    const std::vector<double> by_layer = list(attention / attention_rows);
    for (size_t l = 0; l < out.size(); ++l) out[l].attention_output_cosine = by_layer[l];
  }
  return out;
}

Validation::Validation(std::vector<TrainBatch> rows, const ChannelStatistics& target_statistics)
    : batches_(std::move(rows)), statistics_(target_statistics) {
  for (const TrainBatch& batch : batches_) {
    if (!batch.target_tokens.defined()) continue;
    const at::Tensor tokens = batch.target_tokens.to(at::kCPU);
    for (int64_t i = 0; i < tokens.numel(); ++i) tokens_[tokens[i].item<int64_t>()];
  }
}

int64_t Validation::rows() const {
  int64_t total = 0;
  for (const TrainBatch& batch : batches_) total += row_weights(batch).sum().item<int64_t>();
  return total;
}

void Validation::fit_token_means(const TrainBatch& training) {
  if (!training.target_tokens.defined()) return;
  const c10::NoGradGuard no_grad;
  std::map<int64_t, std::vector<int64_t>> rows_of_token;
  const at::Tensor tokens = training.target_tokens.to(at::kCPU).contiguous();
  const at::Tensor weight = row_weights(training).to(at::kCPU);
  for (int64_t i = 0; i < tokens.numel(); ++i) {
    const int64_t token = tokens.data_ptr<int64_t>()[i];
    if (weight.data_ptr<double>()[i] > 0 && tokens_.contains(token)) {
      rows_of_token[token].push_back(i);
    }
  }
  for (const auto& [token, rows] : rows_of_token) {
    const at::Tensor index = at::tensor(rows, at::kLong).to(training.target.keys_NLHD.device());
    const at::Tensor sum =
        at::stack({training.target.keys_NLHD.index_select(0, index).to(at::kFloat).sum(0),
                   training.target.values_NLHD.index_select(0, index).to(at::kFloat).sum(0)});
    TokenSum& entry = tokens_[token];
    entry.sum = entry.sum.defined() ? entry.sum + sum : sum;
    entry.count += static_cast<int64_t>(rows.size());
  }
}

CacheRows Validation::token_means(const TrainBatch& batch) const {
  const at::Tensor tokens = batch.target_tokens.to(at::kCPU).contiguous();
  const at::Tensor mean = statistics_.mean.to(batch.target.keys_NLHD.device());
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < tokens.numel(); ++i) {
    const auto found = tokens_.find(tokens.data_ptr<int64_t>()[i]);
    const bool known = found != tokens_.end() && found->second.count > 0;
    rows.push_back(known ? found->second.sum / static_cast<double>(found->second.count) : mean);
  }
  const at::Tensor all = at::stack(rows, 1);
  return {all[0], all[1]};
}

template <class Predict>
Validation::Scores Validation::score(const Predict& predict) const {
  Scores scores;
  for (const TrainBatch& batch : batches_) {
    const CacheRows predicted = predict(batch);
    const at::Tensor weight = row_weights(batch);
    std::vector<at::Tensor> errors, variances, cosines;
    for (int64_t part = 0; part < 2; ++part) {
      const at::Tensor y =
          (part == 0 ? batch.target.keys_NLHD : batch.target.values_NLHD).to(at::kFloat);
      const at::Tensor p = (part == 0 ? predicted.keys_NLHD : predicted.values_NLHD).to(at::kFloat);
      const at::Tensor mean = statistics_.mean[part].to(y.device());
      const at::Tensor deviation = statistics_.deviation[part].to(y.device());
      const auto by_layer = [&](const at::Tensor& x_NLHD) {
        return at::mv(x_NLHD.to(at::kDouble).flatten(2).sum(2).t(), weight);
      };
      errors.push_back(by_layer(((p - y) / deviation).square()));
      variances.push_back(by_layer(((y - mean) / deviation).square()));
      cosines.push_back(
          at::mv(at::cosine_similarity(p, y, -1, 1e-8).to(at::kDouble).mean(2).t(), weight));
    }
    const auto add = [](at::Tensor& total, const at::Tensor& more) {
      total = total.defined() ? total + more : more;
    };
    add(scores.error, at::stack(errors));
    add(scores.variance, at::stack(variances));
    add(scores.cosine, at::stack(cosines));
    scores.rows += weight.sum().item<double>();
    if (batch.attention) {
      const at::Tensor got = attention_outputs(*batch.attention, predicted);
      const at::Tensor expected =
          attention_outputs(*batch.attention, batch.target.to(got.device(), got.scalar_type()));
      // [L, B, H, T] -> mean over heads -> rows [L, B * T]
      const at::Tensor cosine =
          at::cosine_similarity(got, expected, -1, 1e-8).mean(2).flatten(1).to(at::kDouble);
      add(scores.attention, at::mv(cosine, weight));
      scores.attention_rows += weight.sum().item<double>();
    }
  }
  return scores;
}

ValidationNumbers Validation::run(const Projector& projector) const {
  const c10::NoGradGuard no_grad;
  const Scores predicted = score([&](const TrainBatch& batch) {
    return projector.translate_rows(
        batch.source.to(projector.device(), batch.source.keys_NLHD.scalar_type()));
  });
  const auto mean = [&](const TrainBatch& batch) {
    const at::Tensor m = statistics_.mean.to(batch.target.keys_NLHD.device());
    const auto repeat = [&](const at::Tensor& x) {
      return x.unsqueeze(0).expand({batch.rows(), x.size(0), x.size(1), x.size(2)});
    };
    return CacheRows{repeat(m[0]), repeat(m[1])};
  };
  ValidationNumbers numbers{.scores = predicted.overall(),
                            .per_layer = predicted.per_layer(),
                            .baselines = {{"mean", score(mean).overall()}},
                            .rows = rows()};
  const bool tokens_known =
      !batches_.empty() && std::ranges::all_of(batches_, [](const TrainBatch& batch) {
        return batch.target_tokens.defined();
      });
  if (tokens_known)
    numbers.baselines["token_mean"] =
        score([&](const TrainBatch& batch) { return token_means(batch); }).overall();
  return numbers;
}

}  // namespace kvlingua
