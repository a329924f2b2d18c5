#include "trainers/regression.h"

#include <ATen/ATen.h>

#include "kvlingua/base/error.h"
#include "trainers/loss.h"

namespace kvlingua {

RegressionObjective::RegressionObjective(const Projector& projector,
                                         const ChannelStatistics& target_statistics,
                                         const RegressionOptions& options,
                                         std::unique_ptr<BatchSource> data,
                                         std::shared_ptr<const Validation> validation)
    : projector_(projector),
      statistics_(target_statistics.to(projector.device())),
      options_(options),
      data_(std::move(data)),
      validation_(std::move(validation)) {}

MicroBatch RegressionObjective::next(bool want_parts) {
  const std::optional<TrainBatch> batch = data_->next();
  if (!batch) throw Error({.where = "regression", .what = "the training data ended too early"});
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
  if (validation_ == nullptr || validation_->rows() == 0) {
    result.numbers = nlohmann::json::object();
    return result;
  }
  result.numbers = validation_->run(projector_);
  const double weights = options_.key_weight + options_.value_weight;
  const auto lost = [&](const char* name) { return 1 - result.numbers[name].get<double>(); };
  result.score =
      (options_.key_weight * lost("key_r2") + options_.value_weight * lost("value_r2")) / weights;
  return result;
}

}  // namespace kvlingua
