#include "trainers/engine/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <limits>
#include <map>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/system.h"

namespace kvlingua {
namespace {

std::vector<bool> decay_flags(const NamedTensors& parameters, const OptimizerPolicy& policy) {
  std::vector<bool> flags;
  for (const auto& [name, tensor] : parameters) flags.push_back(policy.decays(name));
  return flags;
}

// A training loss this many times the first one (and the first validation's score) calls for a
// validation at once.
constexpr double kSuspicious = 3;
// The range test tries rates from this share of optimizer.lr up to it.
constexpr double kRangeSpan = 1e-3;
// Scores this near to each other are alike, however small the first one is.
constexpr double kAlike = 0.02;

}  // namespace

bool decays(const std::string& name) {
  return !(name == "weight" || name == "base.weight" || name.ends_with("bias"));
}

NamedTensors trainable_parameters(const Projector& projector, bool train_base) {
  const NamedTensors all = projector.parameters();
  // A ridge map with nothing over it is trained itself.
  const bool changed = std::any_of(all.begin(), all.end(),
                                   [](const auto& p) { return p.first.starts_with("change."); });
  const auto of_the_map = [&](const std::string& name) {
    if (name.starts_with("base.")) return !name.starts_with("base.change.");
    return changed && (name == "weight" || name == "bias");
  };
  NamedTensors chosen;
  for (const auto& [name, tensor] : all) {
    if (train_base || !of_the_map(name)) chosen.emplace_back(name, tensor);
  }
  return chosen;
}

Trainer::Trainer(Projector& projector, Objective& objective, const TrainerOptions& options,
                 Observers& observers, Save save)
    : projector_(projector),
      objective_(objective),
      options_(options),
      observers_(observers),
      save_(std::move(save)),
      optimizer_(trainable_parameters(projector, options.train_base),
                 decay_flags(trainable_parameters(projector, options.train_base), options.policy),
                 options.optimizer, options.policy.master_copy) {
  const at::Tensor first = trainable_parameters(projector, options.train_base).front().second;
  if (options_.scale_loss || first.scalar_type() == at::kHalf) scale_.emplace(first.device());
  // The same weights everywhere, whatever each process has read or drawn.
  if (options_.peers.alone()) return;
  options_.peers.broadcast(optimizer_.weights());
  optimizer_.write_weights();
}

void Trainer::resume(const Checkpoint& from, const std::string& where) {
  const std::map<std::string, at::Tensor> tensors = by_name(from.optimizer);
  const std::string file = where + "/optimizer.safetensors";
  check_resumed(from.state, where + "/state.json");
  optimizer_.load_state(tensors, file);
  if (const auto best = tensors.find("best_weights"); best != tensors.end()) {
    if (best->second.dim() != 1 || best->second.numel() != optimizer_.weights().numel()) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat(file, ": tensor best_weights"),
                   .what = "does not fit this training run",
                   .got = cat(best->second.numel(), " numbers"),
                   .expected = cat(optimizer_.weights().numel(), " numbers"),
                   .remedy = "use an older checkpoint, or --restart"});
    }
    refuse_non_finite({*best}, file, ExitCode::kCorrupt);
    best_ = best->second.to(projector_.device());
  }
  if (scale_ && from.state.loss_scale) scale_->restore(*from.state.loss_scale);
  objective_.restore(from.state.loader);
  from.rng.restore();
  last_saved_ = where;
}

// Numbers that are of their type's range, and yet were never written by this run.
void Trainer::check_resumed(const TrainState& state, const std::string& where) const {
  const auto refuse = [&](const char* field, std::string got, std::string expected) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where, ": ", field),
                 .what = "not of this training run",
                 .got = std::move(got),
                 .expected = std::move(expected),
                 .remedy = "use an older checkpoint, or --restart"});
  };
  const double top = options_.optimizer.lr;
  if (state.rate && !(*state.rate >= 0.999 * top * kRangeSpan && *state.rate <= 1.001 * top))
    refuse("rate", cat(*state.rate), cat(top * kRangeSpan, " to ", top, ", the recipe's lr"));
  if (scale_ && state.loss_scale && state.loss_scale->finite_steps >= LossScale::kInterval)
    refuse("loss_scale.finite_steps", cat(state.loss_scale->finite_steps),
           cat("below ", LossScale::kInterval));
}

template <class Work>
void Trainer::metered(const char* phase, double units, const Work& work) {
  const ProfileRange range(phase);
  const double begin = StageMeter::now();
  const Objective::Preparation before = objective_.prepared_so_far();
  work();
  if (options_.meter == nullptr) return;
  const Objective::Preparation after = objective_.prepared_so_far();
  const double preparing = after.seconds - before.seconds;
  options_.meter->add(phase, units, StageMeter::now() - begin - preparing);
  if (after.items > before.items)
    options_.meter->add("prepare", static_cast<double>(after.items - before.items), preparing);
}

void Trainer::fit(TrainState& state) {
  start(state);
  while (step(state)) continue;
  conclude(state);
  finish(state);
}

void Trainer::start(TrainState& state) {
  projector_.set_training(true);
  meter_ = Meter();
  first_ = true;
  if (options_.keep_best && state.step == 0) validate(state);
  if (options_.range_test && !state.rate) find_rate(state);
  if (state.rate) options_.optimizer.lr = *state.rate;
}

bool Trainer::step(TrainState& state) {
  if (finished(state)) return false;
  const bool last = state.step + 1 == options_.total_steps;
  // The first step is slower: memory is touched and kernels are made for the first time.
  metered(std::exchange(first_, false) ? "first_step" : "steps", 1, [&] {
    optimize(state, meter_);
    if (!state.stopped && (state.step % options_.log_every == 0 || last)) report(state, meter_);
  });
  if (state.stopped) return false;
  const bool due = options_.validate_every > 0 && state.step % options_.validate_every == 0;
  const bool suspicious =
      options_.keep_best && state.step % options_.log_every == 0 &&
      state.last_loss > kSuspicious * std::max(state.first_loss, state.start_score.value_or(0));
  if (!last && (due || suspicious)) validate(state);
  if (state.stopped) return false;
  if (options_.peers.alone() ? stop_requested() : stopping_) {
    save(state);
    throw stopped_error("saved " + last_saved_);
  }
  if (!last && options_.save_every > 0 && state.step % options_.save_every == 0) save(state);
  return true;
}

void Trainer::conclude(TrainState& state) {
  if (!state.stopped) validate(state);
  if (best_.defined() && (state.best_step != state.step || state.stopped)) {
    optimizer_.set_weights(best_);
    validate(state);
  }
  projector_.set_training(false);
}

void Trainer::finish(TrainState& state) {
  state.stage_finished = true;
  save(state);
}

bool Trainer::finished(const TrainState& state) const {
  return state.step >= options_.total_steps || state.stopped ||
         (options_.patience > 0 && state.validations_without_gain >= options_.patience);
}

at::Tensor Trainer::accumulate(bool want_parts, int64_t& tokens, Meter& meter) {
  optimizer_.zero_grad();
  at::Tensor loss;
  const std::vector<double> window = objective_.window(options_.accumulation);
  for (size_t i = 0; i < window.size(); ++i) {
    MicroBatch micro = objective_.next(want_parts && i + 1 == window.size());
    const at::Tensor share = micro.loss * window[i];
    (scale_ ? scale_->scaled(share) : share).backward();
    optimizer_.collect_grad();
    loss = loss.defined() ? loss + share.detach() : share.detach();
    tokens += micro.tokens;
    meter.parts = std::move(micro.parts);
  }
  // Of several processes one may have no part in a step.
  if (!loss.defined()) loss = at::zeros({}, optimizer_.gradient().options().dtype(at::kFloat));
  agree(loss, tokens);
  return loss;
}

void Trainer::find_rate(TrainState& state) {
  constexpr int kSteps = 30, kFirst = 5;
  constexpr double kSpan = kRangeSpan, kWorse = 1.5, kMemory = 0.8;
  const at::Tensor weights = optimizer_.copy_weights();
  std::map<std::string, at::Tensor> moments;
  for (const auto& [name, tensor] : optimizer_.state()) moments[name] = tensor.clone();
  const nlohmann::json place = objective_.state();
  const RngState rng = RngState::capture();
  const auto factor = scale_ ? std::optional(scale_->state()) : std::nullopt;
  const double top = options_.optimizer.lr;
  double sum = 0, lowest = std::numeric_limits<double>::infinity(), best = top * kSpan;
  Meter nothing;
  for (int i = 0; i < kSteps; ++i) {
    const double rate = top * std::pow(kSpan, 1 - i / (kSteps - 1.0));
    int64_t tokens = 0;
    const double loss = accumulate(false, tokens, nothing).item<double>();
    sum = kMemory * sum + (1 - kMemory) * loss;
    const double smoothed = sum / (1 - std::pow(kMemory, i + 1));
    if (!std::isfinite(smoothed) || (i >= kFirst && smoothed > kWorse * lowest)) break;
    if (smoothed < lowest) {
      lowest = smoothed;
      best = rate;
    }
    if (!unscale(state)) continue;
    optimizer_.clip(options_.optimizer.clip);
    optimizer_.step(rate);
  }
  optimizer_.set_weights(weights);
  optimizer_.load_state(moments, "range test");
  objective_.restore(place);
  if (factor) scale_->restore(*factor);
  rng.restore();
  state.rate = std::max(best / 3, top * kSpan);
  for (auto& observer : observers_)
    observer->remark(cat(state.stage, ": the range test chose a rate of ", *state.rate));
}

// One optimizer step over `accumulation` micro-batches.
void Trainer::optimize(TrainState& state, Meter& meter) {
  const double begin = wall_seconds();
  const int64_t ordinal = state.step + 1;
  const bool logging = ordinal % options_.log_every == 0 || ordinal == options_.total_steps;
  int64_t tokens = 0;
  const at::Tensor loss = accumulate(logging, tokens, meter);
  state.tokens += tokens;
  meter.tokens += tokens;
  // On the CPU looking costs nothing, so no step is taken with a broken loss. On a GPU log steps
  // look, and save() looks before it writes.
  if (loss.is_cpu() || logging) {
    if (options_.keep_best && best_.defined() && !std::isfinite(loss.item<double>())) {
      stop(state, ordinal, cat("the loss of step ", ordinal, " is not finite"));
      return;
    }
    refuse_divergence(state, loss);
  }
  const bool finite = unscale(state);
  meter.gradient_norm = optimizer_.clip(finite ? options_.optimizer.clip : 0);
  meter.lr = options_.policy.rate(options_.optimizer, state.step, options_.total_steps);
  if (finite) optimizer_.step(meter.lr);
  if (scale_ && logging) {
    meter.parts.emplace_back("loss_scale", at::full({}, scale_->factor()));
    meter.parts.emplace_back("skipped_steps", at::full({}, static_cast<double>(scale_->skipped())));
  }
  objective_.stepped(ordinal);
  meter.loss = loss;
  ++meter.steps;
  ++state.step;
  ++state.global_step;
  state.seconds += wall_seconds() - begin;
}

bool Trainer::unscale(const TrainState& state) {
  if (!scale_ || scale_->unscale(optimizer_.gradient())) return true;
  if (scale_->factor() < LossScale::kLeast) {
    throw Error({.code = ExitCode::kFailed,
                 .where = cat(state.stage, ", step ", state.step + 1),
                 .what = "the gradient overflows float16 whatever the loss is scaled by",
                 .remedy = cat("lower train.", state.stage,
                               ".optimizer.lr, or set pair.target.dtype float32")});
  }
  return false;
}

void Trainer::agree(at::Tensor& loss, int64_t& tokens) {
  if (options_.peers.alone()) return;
  // Every process sees a loss that is not finite, and a signal that only one was sent.
  at::Tensor shared = at::tensor({loss.item<double>() / static_cast<double>(options_.peers.size()),
                                  static_cast<double>(tokens), stop_requested() ? 1.0 : 0.0},
                                 at::kDouble);
  options_.peers.sum(shared);
  const double* all = shared.const_data_ptr<double>();
  loss = at::full({}, all[0], loss.options());
  tokens = static_cast<int64_t>(all[1]);
  stopping_ = all[2] > 0;
  if (stopping_ && !stop_requested()) request_stop(SIGTERM);  // this process stops with the others
  options_.peers.mean(optimizer_.gradient());
}

void Trainer::refuse_divergence(const TrainState& state, const at::Tensor& loss) const {
  const double value = loss.item<double>();
  if (std::isfinite(value)) return;
  const std::string good = last_saved_.empty() ? "none of this stage" : last_saved_;
  throw Error(
      {.code = ExitCode::kFailed,
       .where = cat(state.stage, ", step ", state.step + 1),
       .what = "the loss is not finite any more",
       .got = cat(value),
       .remedy = cat("lower train.", state.stage, ".optimizer.lr; last good checkpoint: ", good)});
}

void Trainer::stop(TrainState& state, int64_t step, const std::string& reason) {
  state.stopped = Stopped{step, reason, options_.remedy};
  log_warning(cat(state.stage, " diverged and stops at step ", step, ": ", reason,
                  "; the result is the state of step ", state.best_step, ". ", options_.remedy));
}

void Trainer::judge(TrainState& state, const ValidationResult& result, double r2) {
  if (!options_.keep_best || !state.start_score || state.stopped) return;
  const double start = *state.start_score;
  if (!std::isfinite(result.score)) {
    stop(state, state.step, cat(result.score_name, " is not finite"));
  } else if (options_.divergence_score > 0 &&
             result.score > options_.divergence_score * start + kAlike) {
    stop(state, state.step,
         cat(result.score_name, " ", result.score, ", before the first step ", start));
  } else if (options_.divergence_r2 > 0 && state.start_r2 &&
             r2 < *state.start_r2 - options_.divergence_r2) {
    stop(state, state.step, cat("held-out R2 ", r2, ", before the first step ", *state.start_r2));
  }
}

void Trainer::report(TrainState& state, Meter& meter) {
  StepReport r{.stage = state.stage,
               .step = state.step,
               .total_steps = options_.total_steps,
               .global_step = state.global_step,
               .loss = meter.loss.item<double>(),
               .lr = meter.lr,
               .gradient_norm = meter.gradient_norm.item<double>(),
               .tokens = meter.tokens,
               .steps = meter.steps,
               .seconds = wall_seconds() - meter.since,
               .memory_bytes = current_rss_bytes()};
  if (options_.pace.known())
    r.peak_share = options_.pace.share(static_cast<double>(r.steps), r.seconds);
  for (const auto& [name, tensor] : meter.parts) r.parts.emplace_back(name, tensor.item<double>());
  if (state.step <= options_.log_every) state.first_loss = r.loss;
  state.last_loss = r.loss;
  for (auto& observer : observers_) observer->step(r);
  meter = Meter();
}

void Trainer::validate(TrainState& state) {
  metered("validate", objective_.validation_units(), [&] { validate_now(state); });
}

void Trainer::validate_now(TrainState& state) {
  const RngState rng = RngState::capture();  // what is drawn here must not shift training
  projector_.set_training(false);
  if (optimizer_.averaging()) optimizer_.swap_average();
  ValidationResult result;
  if (options_.peers.main()) result = objective_.validate();
  result.score = options_.peers.broadcast(result.score);
  const double r2 = options_.peers.broadcast(result.numbers.mean_r2());
  state.validation = result.numbers;
  if (options_.keep_best && state.step == 0 && !state.start_score) {
    state.start_score = result.score;
    if (std::isfinite(r2)) state.start_r2 = r2;
  }
  const bool best = !state.best_score || result.score < *state.best_score;
  if (best) {
    state.best_score = result.score;
    state.best_step = state.step;
    if (keeps_best()) best_ = optimizer_.copy_weights();
  }
  state.validations_without_gain = best ? 0 : state.validations_without_gain + 1;
  if (optimizer_.averaging()) optimizer_.swap_average();
  projector_.set_training(true);
  rng.restore();
  for (auto& observer : observers_) observer->validation(state, result.numbers);
  judge(state, result, r2);
}

void Trainer::save(TrainState& state) {
  metered("save", 1, [&] { save_now(state); });
}

void Trainer::save_now(TrainState& state) {
  state.loader = objective_.state();
  if (scale_) state.loss_scale = scale_->state();
  for (auto& observer : observers_) observer->before_save(state);
  Checkpoint checkpoint;
  checkpoint.state = state;
  checkpoint.projector_config = projector_.config();
  checkpoint.rng = RngState::capture();
  // Evaluation loads the averaged weights; the optimizer's own "weights" are what goes on.
  if (optimizer_.averaging()) optimizer_.swap_average();
  checkpoint.projector = projector_.state();
  if (optimizer_.averaging()) {
    for (auto& [name, tensor] : checkpoint.projector) tensor = tensor.detach().clone();
    optimizer_.swap_average();
  }
  checkpoint.optimizer = optimizer_.state();
  if (best_.defined()) checkpoint.optimizer.emplace_back("best_weights", best_);
  for (const auto& [name, tensor] : checkpoint.projector) {
    // In float32: what is finite in float16 may add up to more than that holds.
    if (tensor.is_floating_point()) refuse_divergence(state, tensor.detach().sum(at::kFloat));
  }
  last_saved_ = options_.peers.main() ? save_(checkpoint) : "that of process 0";
}

}  // namespace kvlingua
