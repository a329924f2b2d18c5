#include "trainers/engine/schedule.h"

#include <algorithm>
#include <cmath>

namespace kvlingua {

int64_t warmup_steps(const OptimizerOptions& options, int64_t total) {
  if (options.warmup_steps > 0) return options.warmup_steps;
  return static_cast<int64_t>(std::llround(options.warmup_ratio * static_cast<double>(total)));
}

double learning_rate(const OptimizerOptions& options, int64_t step, int64_t total) {
  const int64_t warmup = warmup_steps(options, total);
  if (step < warmup) {
    return options.lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const double rest = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double done = std::clamp(static_cast<double>(step - warmup) / rest, 0.0, 1.0);
  double share = 1.0;
  if (options.schedule == "linear") share = 1.0 - done;
  if (options.schedule == "cosine") share = 0.5 * (1.0 + std::cos(M_PI * done));
  return options.lr * (options.final_lr_ratio + (1.0 - options.final_lr_ratio) * share);
}

double transformers_learning_rate(const OptimizerOptions& options, int64_t step, int64_t total) {
  if (options.schedule == "constant") return options.lr;
  const int64_t warmup =
      options.warmup_steps > 0
          ? options.warmup_steps
          : static_cast<int64_t>(options.warmup_ratio * static_cast<double>(total));
  if (step < warmup) return options.lr * (static_cast<double>(step) / static_cast<double>(warmup));
  const double rest = static_cast<double>(std::max<int64_t>(1, total - warmup));
  double share = std::max(0.0, static_cast<double>(total - step) / rest);
  if (options.schedule == "cosine") share = 0.5 * (1.0 + std::cos(M_PI * (1.0 - share)));
  return options.lr * (options.final_lr_ratio + (1.0 - options.final_lr_ratio) * share);
}

}  // namespace kvlingua
