#include "trainers/engine/validation.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "trainers/stages/loss.h"

namespace kvlingua {
namespace {

using nlohmann::json;

json list(const at::Tensor& values) {
  json all = json::array();
  const at::Tensor here = values.to(at::kCPU, at::kDouble).contiguous();
  for (int64_t i = 0; i < here.numel(); ++i) all.push_back(here.data_ptr<double>()[i]);
  return all;
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

  json to_json() const {
    const at::Tensor r2 = 1 - error / variance.clamp_min(1e-30), cos = cosine / rows;
    json j;
    const char* const names[] = {"key", "value"};
    for (int64_t part = 0; part < 2; ++part) {
      const std::string name = names[part];
      j[name + "_r2"] = 1 - (error[part].sum() / variance[part].sum()).item<double>();
      j[name + "_cosine"] = cos[part].mean().item<double>();
      j["per_layer"][name + "_r2"] = list(r2[part]);
      j["per_layer"][name + "_cosine"] = list(cos[part]);
    }
    if (attention.defined()) {
      const at::Tensor by_layer = attention / attention_rows;
      j["attention_output_cosine"] = by_layer.mean().item<double>();
      j["per_layer"]["attention_output_cosine"] = list(by_layer);
    } else {
      j["attention_output_cosine"] = nullptr;
    }
    return j;
  }
};

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

json Validation::run(const Projector& projector) const {
  const c10::NoGradGuard no_grad;
  json result = score([&](const TrainBatch& batch) {
                  return projector.translate_rows(
                      batch.source.to(projector.device(), batch.source.keys_NLHD.scalar_type()));
                }).to_json();
  const auto mean = [&](const TrainBatch& batch) {
    const at::Tensor m = statistics_.mean.to(batch.target.keys_NLHD.device());
    const auto repeat = [&](const at::Tensor& x) {
      return x.unsqueeze(0).expand({batch.rows(), x.size(0), x.size(1), x.size(2)});
    };
    return CacheRows{repeat(m[0]), repeat(m[1])};
  };
  json baselines = {{"mean", score(mean).to_json()}};
  bool tokens_known = !batches_.empty();
  for (const TrainBatch& batch : batches_)
    tokens_known = tokens_known && batch.target_tokens.defined();
  if (tokens_known) {
    baselines["token_mean"] =
        score([&](const TrainBatch& batch) { return token_means(batch); }).to_json();
  }
  for (auto& [name, baseline] : baselines.items()) baseline.erase("per_layer");
  result["baselines"] = baselines;
  result["rows"] = rows();
  return result;
}

}  // namespace kvlingua
