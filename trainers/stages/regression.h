// The regression stage's objective: variance-normalised error on un-rotated keys and values, plus
// an optional attention-output term where the data hold the target's queries.
#pragma once

#include <memory>

#include "kvlingua/config/train_options.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/statistics.h"
#include "trainers/engine/batch_source.h"
#include "trainers/engine/objective.h"
#include "trainers/engine/validation.h"

namespace kvlingua {

class RegressionObjective : public Objective {
 public:
  // `validation` may be null: then the score is the last loss.
  RegressionObjective(const Projector& projector, const ChannelStatistics& target_statistics,
                      const RegressionOptions& options, std::unique_ptr<BatchSource> data,
                      std::shared_ptr<const Validation> validation);
  MicroBatch next(bool want_parts) override;
  ValidationResult validate() override;
  double validation_units() const override {
    return validation_ == nullptr ? 0 : static_cast<double>(validation_->rows());
  }
  nlohmann::json state() const override { return data_->state(); }
  void restore(const nlohmann::json& state) override { data_->restore(state); }
  int64_t micro_batches_per_epoch() const override { return data_->batches_per_epoch(); }

 private:
  const Projector& projector_;
  ChannelStatistics statistics_;
  RegressionOptions options_;
  std::unique_ptr<BatchSource> data_;
  std::shared_ptr<const Validation> validation_;
};

}  // namespace kvlingua
