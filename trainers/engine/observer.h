// Observers: everything a training run says while it runs. The loop in trainer.cpp computes, these
// print and log.
//
//   console        one line a step, on stderr
//   metrics.jsonl  one JSON a logged step or validation: what a resumed run repeats bit for bit
//   timing.jsonl   speed and memory of the same steps: what no run repeats
//   events/        TensorBoard
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/train_state.h"

namespace kvlingua {

struct StepReport {
  std::string stage;
  int64_t step = 0, total_steps = 0;  // steps done
  int64_t global_step = 0;
  double loss = 0, lr = 0, gradient_norm = 0;
  std::vector<std::pair<std::string, double>> parts;  // "key_cosine", "kl", ...
  // Since the last report.
  int64_t tokens = 0, steps = 1;
  double seconds = 0;
  uint64_t memory_bytes = 0;         // in use now
  std::optional<double> peak_share;  // of the products a second that the device can do (pace.h)
};

// One line in columns, as wide at every step of a stage:
//   step 120/1929  | loss 1.8421  | cos K .871 V .802 | lr 9.3e-05 | 412 ms   | 39.8k tok/s |
//   35 % of peak  | 6.1 GiB
std::string step_line(const StepReport& report);

class Observer {
 public:
  virtual ~Observer() = default;
  // Before the first step. `resumed`: the state comes from a checkpoint; what was logged after it
  // is to be cut off.
  virtual void begin(const TrainState& state, bool resumed) { (void)state, (void)resumed; }
  virtual void step(const StepReport& report) { (void)report; }
  virtual void validation(const TrainState& state, const ValidationNumbers& numbers) {
    (void)state, (void)numbers;
  }
  virtual void remark(const std::string& line) { (void)line; }
  // Just before a checkpoint of `state`: flush, and put into it what begin() will need.
  virtual void before_save(TrainState& state) { (void)state; }
};

using Observers = std::vector<std::unique_ptr<Observer>>;

std::unique_ptr<Observer> make_console_observer();
std::unique_ptr<Observer> make_json_lines_observer(const std::filesystem::path& run);
std::unique_ptr<Observer> make_tensorboard_observer(const std::filesystem::path& run);

}  // namespace kvlingua
