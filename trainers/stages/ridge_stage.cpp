// Stage ridge: one pass over the pairs into sums, and the closed-form solution (ridge_fit.h).
#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/cache/tensor_file.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/system.h"
#include "trainers/engine/train_run.h"
#include "trainers/stages/ridge_cost.h"
#include "trainers/stages/ridge_fit.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSmallestBlock = 64;
constexpr const char* kPreviousTensor = "previous";  // of kept sums: tokens, then their layers
constexpr double kWorthMoreRows = 0.01;              // of held-out R2

class RidgeStage : public Stage {
 public:
  explicit RidgeStage(TrainRun& run) : Stage(run, kRidgeStage), pairs_(run.pairs()) {}
  PairIdentity pair() const override { return pairs_.pair(); }
  std::string data_sha256() const override { return pairs_.sha256(); }
  std::vector<Line> data_lines() const override { return pairs_.lines(); }
  StagePlan plan(const MachineNumbers& machine) const override {
    return ridge_cost().plan(pairs_.plan_inputs(machine));
  }

  void begin(TrainState& state, const StageStart& start) override;
  bool step(TrainState& state) override;
  void validate(TrainState& state) override;
  void finish(TrainState& state) override;

 private:
  void gather(TrainState& state);
  void pass(RidgeRows which, const std::function<void(int64_t)>& progress);
  void gather_by_halves(const std::function<void(int64_t)>& progress);
  void add_point(const RidgeSolution& solution);
  void add_earlier();
  void solve();
  double keep_sums() const;
  void save_control() const;
  void report_rows(TrainState& state) const;
  void report_choice(TrainState& state) const;
  void report_gain() const;
  void report_curve(TrainState& state) const;
  at::Tensor previous_tensor() const;

  const RidgeOptions& options() const { return run_.recipe().projector.ridge; }
  const KvShape& source() const { return pairs_.source_shape(); }
  const KvShape& target() const { return pairs_.target_shape(); }

  PairData& pairs_;
  double begin_ = 0;
  std::optional<RidgeSumsPair> sums_;
  RidgeSolution solution_;
  std::vector<RidgeNumbers::Point> curve_;     // held-out R2 by fitted rows
  std::unique_ptr<RidgeProjector> projector_;  // of process 0
};

void RidgeStage::begin(TrainState& state, const StageStart&) {
  begin_ = wall_seconds();
  const uint64_t available = run_.device().is_cpu() ? available_memory_bytes() : 0;
  sums_.emplace(make_ridge_sums(source(), target(), options(), run_.device(), available));
  if (run_.peers().main()) add_earlier();
  for (auto& observer : run_.folder().observers()) observer->begin(state, false);
}

// The one there is: the pass and its solution.
bool RidgeStage::step(TrainState& state) {
  gather(state);
  if (!run_.peers().main()) return false;  // process 0 solves, the others wait for its checkpoint
  state.tokens = pairs_.train_rows();
  solve();
  state.step = state.total_steps = 1;
  ++state.global_step;
  state.seconds += wall_seconds() - begin_;
  return false;
}

void RidgeStage::gather(TrainState& state) {
  const Peers& peers = run_.peers();
  const int64_t all = pairs_.train_rows();
  const bool by_halves = options().curve > 0 && peers.alone();
  Progress progress(kRidgeStage, all * (by_halves ? 2 : 1) / peers.size(), "rows");
  const auto advance = [&](int64_t n) {
    progress.advance(n);
    // Sums of part of the data are not worth keeping: the pass starts again.
    if (stop_requested())
      throw stopped_error("nothing of the ridge stage is kept; it starts again");
  };
  if (by_halves) {
    gather_by_halves(advance);
  } else {
    const auto timer = run_.meter().time("gather", static_cast<double>(all));
    pass(RidgeRows::kAll, advance);
  }
  state.tokens += all / peers.size();
  progress.finish();
  if (peers.alone()) return;
  for (RidgeSums* part : {&sums_->train, &sums_->heldout})
    part->sum_over([&](at::Tensor& tensor) { peers.sum(tensor); });
}

void RidgeStage::pass(RidgeRows which, const std::function<void(int64_t)>& progress) {
  // Blocks of a size that does not depend on the number of processes: a block's products are
  // rounded to float32, and so all of them together are the same sums.
  const int64_t set =
      std::max(pairs_.train_rows(), run_.context().rehearsal);  // a rehearsal adds like the run
  const int64_t block = std::clamp<int64_t>(set / 32, kSmallestBlock, kRidgeBlock);
  const auto rows =
      pairs_.source(LoadUnit::kRows, LoadUse::kTrain, block * run_.peers().size(), 1, false, true);
  gather_ridge_sums(*rows, options(), *sums_, progress, which);
}

// The held-out rows first, so that every point of the curve is judged by the same ones; then the
// others, with a solution wherever half, a quarter, ... of all of them are there.
void RidgeStage::gather_by_halves(const std::function<void(int64_t)>& progress) {
  const double begin = StageMeter::now();
  double solving = 0;
  const int64_t earlier = sums_->train.count() + sums_->heldout.count();
  pass(RidgeRows::kHeldOut, progress);
  const int64_t all = earlier + pairs_.train_rows() - sums_->heldout.count();  // to be fitted
  int64_t left = sums_->heldout.count() > 0 ? options().curve : 0;
  pass(RidgeRows::kFitted, [&](int64_t n) {
    progress(n);
    if (left == 0 || sums_->train.count() < std::max<int64_t>(2, all >> left)) return;
    while (left > 0 && sums_->train.count() >= all >> left) --left;
    const double from = StageMeter::now();
    add_point(solve_ridge(sums_->train, &sums_->heldout, options()));
    solving += StageMeter::now() - from;
  });
  const auto rows = static_cast<double>(pairs_.train_rows());
  run_.meter().add("gather", rows, StageMeter::now() - begin - solving);
  run_.meter().add("curve", 1, solving);
}

void RidgeStage::add_point(const RidgeSolution& solution) {
  if (!solution.heldout_r2.defined()) return;
  const auto mean = [&](int64_t part) { return solution.heldout_r2[part].mean().item<double>(); };
  const auto rows = sums_->train.count();
  curve_.push_back(
      {.rows = rows,
       .rows_per_feature = static_cast<double>(rows) / static_cast<double>(solution.features),
       .heldout = {mean(0), mean(1)}});
}

void RidgeStage::solve() {
  auto solving = run_.meter().time("solve");
  solution_ =
      solve_ridge(sums_->train, sums_->heldout.count() > 0 ? &sums_->heldout : nullptr, options());
  for (const std::string& note : solution_.notes) log_warning(note);
  if (options().curve > 0) add_point(solution_);
  projector_ = std::make_unique<RidgeProjector>(source(), target(), options());
  projector_->to(run_.device(), at::kFloat);
  projector_->adopt(solution_);
  save_control();
  solving.stop();
  auto keeping = run_.meter().time("keep");
  keeping.stop(keep_sums());
}

void RidgeStage::validate(TrainState& state) {
  if (!run_.peers().main()) return;
  const auto held = pairs_.validation(projector_->target_statistics());
  if (held->rows() == 0) return;
  const auto timer = run_.meter().time("validate", static_cast<double>(held->rows()));
  state.validation = held->run(*projector_);
  state.last_loss = 1 - state.validation->mean_r2();
  state.first_loss = 1;  // the zero map predicts the mean
  for (auto& observer : run_.folder().observers()) observer->validation(state, *state.validation);
}

void RidgeStage::finish(TrainState& state) {
  const std::optional<RidgeSumsPair> done = std::exchange(sums_, std::nullopt);
  if (!run_.peers().main()) return;
  report_rows(state);
  report_choice(state);
  report_gain();
  report_curve(state);
  state.stage_finished = true;
  run_.folder().finish(state);
  for (auto& observer : run_.folder().observers()) observer->before_save(state);
  run_.folder().save(run_.checkpoint_of(*projector_, state, *this));
}

// Whether there were rows enough for what is read of each: what more rows would give.
void RidgeStage::report_rows(TrainState& state) const {
  const RidgeSolution& solution = solution_;
  if (!state.validation) state.validation.emplace();
  RidgeNumbers& numbers = state.validation->ridge.emplace(
      RidgeNumbers{.rows = solution.rows,
                   .features = solution.features,
                   .rows_per_feature = solution.rows_per_feature()});
  std::string text = cat("ridge: ", solution.rows, " rows for ", solution.features, " features, ",
                         solution.rows_per_feature(), " rows a feature");
  if (!solution.heldout_r2.defined()) {
    run_.folder().remark(text);
    return;
  }
  const auto mean = [](const at::Tensor& r2) {
    return RidgeNumbers::R2{r2[0].mean().item<double>(), r2[1].mean().item<double>()};
  };
  const auto said = [](const RidgeNumbers::R2& r2) { return cat(" K ", r2.key, " V ", r2.value); };
  numbers.fitted = mean(solution.fitted_r2);
  const auto& held = numbers.heldout.emplace(mean(solution.heldout_r2));
  const auto& doubled = numbers.doubled.emplace(mean(solution.doubled_r2));
  const double most = std::max({0.0, doubled.key - held.key, doubled.value - held.value});
  run_.folder().remark(cat(text, ", lambda ", solution.lambda.min().item<double>(), " to ",
                           solution.lambda.max().item<double>(), "; held-out R2", said(held),
                           ", with twice the rows about", said(doubled)));
  if (most > kWorthMoreRows) {
    log_warning(cat("ridge: too few rows for what it reads (", solution.rows_per_feature(),
                    " a feature; twice as many would raise the held-out R2 by ", most,
                    "): add documents, or read less (projector.ridge.candidate_layers, "
                    "previous_tokens, budget)"));
  }
}

void RidgeStage::report_gain() const {
  if (!solution_.gain.defined()) return;
  const auto mean = [&](int64_t part) { return solution_.gain[part].mean().item<double>(); };
  run_.folder().remark(cat("ridge: channels scaled about their means by K ", mean(0), " V ",
                           mean(1), " (gain ", options().gain,
                           "); the R2 above is before it, validation's after it"));
}

// The learning curve, where one was asked for.
void RidgeStage::report_curve(TrainState& state) const {
  if (curve_.size() < 2) return;
  std::string text;
  for (const RidgeNumbers::Point& point : curve_)
    text += cat(text.empty() ? "" : ", ", point.rows, " rows K ", point.heldout.key, " V ",
                point.heldout.value);
  state.validation->ridge->curve = curve_;
  run_.folder().remark(cat("ridge: held-out R2 by fitted rows: ", text));
}

// Which layers a budget bought, and the held-out R2 after each.
void RidgeStage::report_choice(TrainState& state) const {
  if (solution_.chosen.empty()) return;
  const PreviousTokens previous = pairs_.previous_tokens();
  const auto kinds = static_cast<int64_t>(previous.layers.size());
  std::vector<RidgeNumbers::Choice>& all = state.validation->ridge->chosen;
  std::string text;
  for (size_t i = 0; i < solution_.chosen.size(); ++i) {
    const int64_t at = solution_.chosen[i] - source().layers;
    const int64_t before = at < 0 ? 0 : at / kinds + 1,
                  layer = at < 0 ? solution_.chosen[i]
                                 : previous.layers[static_cast<size_t>(at % kinds)];
    all.push_back({.layer = layer, .tokens_before = before, .r2 = solution_.choice_r2[i]});
    text += cat(i == 0 ? "" : ", ", layer);
    if (before > 0) text += cat("@-", before);
  }
  run_.folder().remark(cat("ridge: reads source layers ", text, " (@-n: n tokens before)"));
}

at::Tensor RidgeStage::previous_tensor() const {
  const PreviousTokens previous = pairs_.previous_tokens();
  std::vector<int64_t> numbers{previous.tokens};
  numbers.insert(numbers.end(), previous.layers.begin(), previous.layers.end());
  return at::tensor(numbers, at::kLong);
}

void RidgeStage::add_earlier() {
  for (const std::string& earlier : options().add_sums) {
    const fs::path folder = resolve_path(earlier);
    for (const auto& [file, into] : {std::pair{"train.safetensors", &sums_->train},
                                     {"heldout.safetensors", &sums_->heldout}}) {
      RidgeSums more(into->source_shape(), target(), into->joint(), run_.device(),
                     into->candidates());
      const std::map<std::string, at::Tensor> tensors = read_tensors(folder / file);
      more.load(tensors, (folder / file).string());
      const auto previous = tensors.find(kPreviousTensor);
      if (previous != tensors.end() && !previous->second.equal(previous_tensor())) {
        throw Error({.code = ExitCode::kInput,
                     .where = (folder / file).string(),
                     .what = "sums over other previous tokens",
                     .expected = "the recipe's projector.ridge.previous_tokens and previous_layers",
                     .remedy = "gather them again"});
      }
      into->merge(more);
    }
  }
}

// So that more data can be added later (projector.ridge.add_sums). Returns the bytes written.
double RidgeStage::keep_sums() const {
  const fs::path folder = run_.context().paths.run / "ridge-sums";
  make_directories(folder);
  double bytes = 0;
  for (const auto& [file, part] :
       {std::pair{"train.safetensors", &sums_->train}, {"heldout.safetensors", &sums_->heldout}}) {
    NamedTensors tensors = part->tensors();
    tensors.emplace_back(kPreviousTensor, previous_tensor());
    write_tensors(folder / file, tensors);
    bytes += static_cast<double>(fs::file_size(folder / file));
  }
  return bytes;
}

// The map from the one layer at the same relative depth: known to fail on behaviour, so evaluation
// shows it as a control.
void RidgeStage::save_control() const {
  RidgeOptions options = this->options();
  options.source_layers = 1;
  options.selection = "aligned";
  options.previous_tokens = options.budget = 0;
  RidgeProjector control(source(), target(), options);
  const auto solve = [&](const RidgeSums& train, const RidgeSums& heldout) {
    control.adopt(solve_ridge(train, heldout.count() > 0 ? &heldout : nullptr, options));
  };
  if (pairs_.previous_tokens().tokens == 0) {
    solve(sums_->train, sums_->heldout);
  } else {
    const int64_t layers = source().layers;
    solve(sums_->train.first_layers(layers), sums_->heldout.first_layers(layers));
  }
  TrainState state;
  state.stage = kRidgeControl;
  state.stage_finished = true;
  const fs::path temporary = run_.context().paths.run / cat(".", kRidgeControl, ".tmp");
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  make_directories(temporary);
  write_checkpoint(run_.checkpoint_of(control, state, *this), temporary);
  publish_directory(temporary, run_.context().paths.run / kRidgeControl);
}

}  // namespace

std::unique_ptr<Stage> make_ridge_stage(TrainRun& run) { return std::make_unique<RidgeStage>(run); }

}  // namespace kvlingua
