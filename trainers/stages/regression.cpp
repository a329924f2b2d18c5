#include "trainers/stages/regression.h"

#include <ATen/ATen.h>

#include "kvlingua/base/error.h"
#include "trainers/stages/loss.h"

namespace kvlingua {
namespace {

at::Tensor weights_of(const std::vector<double>& weights, int64_t count, const char* option) {
  if (weights.empty()) return at::ones({count}, at::kDouble);
  const at::Tensor w = at::tensor(weights, at::kDouble);
  if (static_cast<int64_t>(weights.size()) == count && w.sum().item<double>() > 0) return w;
  throw Error({.code = ExitCode::kUsage,
               .where = cat("train.regression.", option),
               .what = "does not fit the target",
               .got = cat(weights.size(), " weights of sum ", w.sum().item<double>()),
               .expected = cat(count, ", not all zero")});
}

// The errors are measured in these units: weighing a layer by w makes its unit sqrt(w) times
// smaller. Weights are relative, so their mean is 1.
ChannelStatistics weighed(ChannelStatistics statistics, const RegressionOptions& options) {
  if (options.layer_weights.empty() && options.head_weights.empty()) return statistics;
  const at::Tensor& unit = statistics.deviation;  // [2, L, H, D]
  const at::Tensor w =
      weights_of(options.layer_weights, unit.size(1), "layer_weights").unsqueeze(1) *
      weights_of(options.head_weights, unit.size(2), "head_weights");
  const at::Tensor scale = (w / w.mean()).sqrt().unsqueeze(-1);
  statistics.deviation = unit / scale.to(unit.device(), unit.scalar_type());
  return statistics;
}

}  // namespace

RegressionObjective::RegressionObjective(const Projector& projector,
                                         const ChannelStatistics& target_statistics,
                                         const RegressionOptions& options,
                                         std::unique_ptr<BatchSource> data,
                                         std::shared_ptr<const Validation> validation)
    : projector_(projector),
      statistics_(weighed(target_statistics.to(projector.device()), options)),
      options_(options),
      data_(std::move(data)),
      validation_(std::move(validation)) {}

MicroBatch RegressionObjective::next(bool want_parts) {
  const std::optional<TrainBatch> batch = data_->next();
  if (!batch) throw Error({.where = kRegressionStage, .what = "the training data ended too early"});
  const auto here = [&](const CacheRows& rows) {
    return rows.to(projector_.device(), rows.keys_NLHD.scalar_type());
  };
  const CacheRows target = here(batch->target);
  const CacheRows predicted = projector_.translate_rows(here(batch->source));
  const at::Tensor mask =
      batch->row_mask.defined() ? batch->row_mask.to(projector_.device()) : batch->row_mask;
  const NormalisedError error = normalised_error(predicted, target, statistics_, mask);
  const double weights = options_.key_weight + options_.value_weight;
  MicroBatch micro{.tokens = batch->rows()};
  micro.loss = (error.keys * options_.key_weight + error.values * options_.value_weight) / weights;
  if (options_.attention_weight > 0) {
    if (!batch->attention) {
      throw Error({.code = ExitCode::kUsage,
                   .where = "train.regression.attention_weight",
                   .what = "the pair set holds no queries of the target",
                   .expected = "a set generated with data.queries",
                   .remedy = "set it to 0, or generate again with --set data.queries=true"});
    }
    const at::Tensor attention = attention_error(*batch->attention, predicted, target);
    micro.loss = micro.loss + options_.attention_weight * attention;
    if (want_parts) micro.parts.emplace_back("attention", attention.detach());
  }
  if (want_parts) {
    micro.parts.emplace_back("key_error", error.keys.detach());
    micro.parts.emplace_back("value_error", error.values.detach());
    micro.parts.emplace_back("key_cosine",
                             mean_cosine(predicted.keys_NLHD.detach(), target.keys_NLHD, mask));
    micro.parts.emplace_back("value_cosine",
                             mean_cosine(predicted.values_NLHD.detach(), target.values_NLHD, mask));
  }
  return micro;
}

ValidationResult RegressionObjective::validate() {
  ValidationResult result;
  if (validation_ == nullptr || validation_->rows() == 0) return result;
  result.numbers = validation_->run(projector_);
  const double weights = options_.key_weight + options_.value_weight;
  const RowScores& held = *result.numbers.scores;
  result.score =
      (options_.key_weight * (1 - held.key_r2) + options_.value_weight * (1 - held.value_r2)) /
      weights;
  return result;
}

}  // namespace kvlingua
