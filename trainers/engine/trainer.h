// Trainer: the loop of every gradient stage. Read step() in trainer.cpp; it fits on a page.
//
// Exact resume: a checkpoint holds weights, moments, schedule position, torch's generators and the
// data stream's position, all taken between two steps. On the CPU a run that was stopped and
// resumed ends with the same bits as one that was not.
//
// With keep_best a stage cannot make things worse: the state before the first step is validated
// too, the best validated state is the result, and a validation far beyond the first one's, or a
// loss that is not finite, ends the stage there (TrainState::stopped says why and what to change).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "kvlingua/base/clock.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/config/train_options.h"
#include "kvlingua/projector/projector.h"
#include "trainers/engine/flat_adamw.h"
#include "trainers/engine/loss_scale.h"
#include "trainers/engine/objective.h"
#include "trainers/engine/observer.h"
#include "trainers/engine/optimizer_policy.h"
#include "trainers/engine/pace.h"
#include "trainers/engine/peers.h"

namespace kvlingua {

struct TrainerOptions {
  OptimizerOptions optimizer;
  int64_t accumulation = 1;
  int64_t total_steps = 0;
  int64_t validate_every = 0;  // 0: only at the end
  int64_t patience = 0;        // validations without gain before stopping; 0: never
  bool keep_best = false;      // see above
  // With keep_best: the stage stops once a validation's score is above this times the first one's,
  // or its R2 (mean of keys' and values') this far below the first one's; 0: not for that.
  double divergence_score = 0, divergence_r2 = 0;
  std::string remedy;  // what to change then
  // The peak rate is found by a range test (Smith, arXiv 1506.01186): thirty steps of rates that
  // rise from a thousandth of optimizer.lr to all of it; taken is a third of the rate at which the
  // smoothed loss was lowest. Weights, moments, data and random numbers are put back after it.
  bool range_test = false;
  int64_t save_every = 0;  // 0: only at the end
  int64_t log_every = 10;
  bool train_base = true;   // of mlp: the ridge map too
  bool scale_loss = false;  // gradients go through float16 (loss_scale.h); so do half weights' own
  Peers peers;              // who trains together; gradients are averaged over all
  OptimizerPolicy policy;
  StageMeter* meter = nullptr;  // told of steps, validations and checkpoints
  Pace pace;                    // for the share of the device's peak in reports
};

class Trainer {
 public:
  // Writes a checkpoint and says where; the tensors are only valid during the call.
  using Save = std::function<std::string(const Checkpoint&)>;

  Trainer(Projector& projector, Objective& objective, const TrainerOptions& options,
          Observers& observers, Save save);

  // Goes on from a checkpoint of this stage, whose projector has been loaded already.
  void resume(const Checkpoint& from, const std::string& where);
  // Named in the error of a divergence until this stage has a checkpoint of its own.
  void set_last_good(const std::string& where) { last_saved_ = where; }
  // Moments of another program's run, first and second by parameter name, after `steps` steps.
  void adopt_moments(const std::map<std::string, std::pair<at::Tensor, at::Tensor>>& moments,
                     int64_t steps) {
    optimizer_.adopt_moments(moments, steps);
  }
  // Runs the stage to its end. Throws Error: kFailed when the loss stops being finite (naming step
  // and last good checkpoint) and no better state is kept, kTerminated / kInterrupted after saving
  // when asked to stop.
  void fit(TrainState& state);
  // The same in parts, as a stage is driven (stage.h): what comes before the first step, one step
  // with what is due after it (false: that was the last), the last validation with the best state
  // put back, and the checkpoint of the finished stage.
  void start(TrainState& state);
  bool step(TrainState& state);
  void conclude(TrainState& state);
  void finish(TrainState& state);

 private:
  // What happened since the last report.
  struct Meter {
    double since = wall_seconds();
    int64_t steps = 0, tokens = 0;
    at::Tensor loss, gradient_norm;
    double lr = 0;
    std::vector<std::pair<std::string, at::Tensor>> parts;
  };
  void check_resumed(const TrainState& state, const std::string& where) const;
  void find_rate(TrainState& state);
  // Gradients of one optimizer step, of all processes; its loss.
  at::Tensor accumulate(bool want_parts, int64_t& tokens, Meter& meter);
  void optimize(TrainState& state, Meter& meter);
  // Whether the gradient is finite. Throws Error (kFailed) when no factor makes it so.
  bool unscale(const TrainState& state);
  void report(TrainState& state, Meter& meter);
  void validate(TrainState& state);
  void validate_now(TrainState& state);
  void save(TrainState& state);
  void save_now(TrainState& state);
  // Times `work`; what the objective prepares meanwhile counts as that.
  template <class Work>
  void metered(const char* phase, double units, const Work& work);
  bool finished(const TrainState& state) const;
  // Exchanges with the other processes what all must agree on, and averages the gradients.
  void agree(at::Tensor& loss, int64_t& tokens);
  void refuse_divergence(const TrainState& state, const at::Tensor& loss) const;
  // Whether the stage is to end at its best state because of this validation.
  void judge(TrainState& state, const ValidationResult& result, double r2);
  void stop(TrainState& state, int64_t step, const std::string& reason);
  bool keeps_best() const { return options_.keep_best || options_.patience > 0; }

  Projector& projector_;
  Objective& objective_;
  TrainerOptions options_;
  Observers& observers_;
  Save save_;
  FlatAdamW optimizer_;
  std::optional<LossScale> scale_;
  Meter meter_;
  bool first_ = true;      // no step has been taken yet
  bool stopping_ = false;  // somebody was asked to stop
  at::Tensor best_;        // flat weights of the best validation; only if keeps_best()
  std::string last_saved_;
};

// Which of a projector's parameters a stage trains.
NamedTensors trainable_parameters(const Projector& projector, bool train_base);

}  // namespace kvlingua
