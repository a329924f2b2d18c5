// Objective: what one stage minimises. It owns its data stream and knows the loss; the loop
// (trainer.h) knows steps, the optimizer and checkpoints.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/stage_result.h"

namespace kvlingua {

struct MicroBatch {
  at::Tensor loss;     // scalar, graph attached: the mean over its items
  int64_t tokens = 0;  // target tokens it holds
  std::vector<std::pair<std::string, at::Tensor>> parts;  // scalars worth a column in the log
};

struct ValidationResult {
  double score = 0;  // lower is better: what early stopping and keep_best go by
  ValidationNumbers numbers;
  std::string score_name = "held-out loss";
};

class Objective {
 public:
  virtual ~Objective() = default;
  // The loss of the next micro-batch. `want_parts`: a log step, so parts may cost a little.
  virtual MicroBatch next(bool want_parts) = 0;
  virtual ValidationResult validate() = 0;
  // Position of the data stream, for checkpoints.
  virtual nlohmann::json state() const = 0;
  virtual void restore(const nlohmann::json& state) = 0;
  virtual int64_t micro_batches_per_epoch() const = 0;
  // The weights of the micro-batches of the next optimizer step, one each: how many there are, and
  // what each adds to the step's loss. Called once before their next(); equal shares by default.
  // None: this process has no part in the step (others have).
  virtual std::vector<double> window(int64_t accumulation) {
    return std::vector<double>(static_cast<size_t>(accumulation),
                               1.0 / static_cast<double>(accumulation));
  }
  // What one validate() works on: held-out rows or items.
  virtual double validation_units() const { return 1; }
  // Items that next() and validate() have prepared so far and the seconds that took. A step whose
  // items are kept does not pay for it again.
  struct Preparation {
    int64_t items = 0;
    double seconds = 0;
  };
  virtual Preparation prepared_so_far() const { return {}; }
  // After optimizer step `steps` (the first is 1): schedules of its own.
  virtual void stepped(int64_t steps) { (void)steps; }
};

}  // namespace kvlingua
