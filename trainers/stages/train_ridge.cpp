// TrainRun (train_run.h): the ridge stage, from sums to a solution.
#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>

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

namespace kvlingua {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kSmallestBlock = 64;
constexpr double kWorthMoreRows = 0.01;  // of held-out R2

}  // namespace

void TrainRun::ridge(TrainState state) {
  const double begin = wall_seconds();
  const RidgeOptions& options = recipe_.projector.ridge;
  const uint64_t available = device_.is_cpu() ? available_memory_bytes() : 0;
  RidgeSumsPair sums =
      make_ridge_sums(info_.source.shape, info_.target.shape, options, device_, available);
  if (peers_.main()) add_earlier(sums);
  for (auto& observer : folder_.observers()) observer->begin(state, false);
  Progress progress("ridge", train_rows_ / peers_.size(), "rows");
  // Blocks of a size that does not depend on the number of processes: a block's products are
  // rounded to float32, and so all of them together are the same sums.
  const int64_t set = std::max(train_rows_, context_.rehearsal);  // a rehearsal adds like the run
  const int64_t block = std::clamp<int64_t>(set / 32, kSmallestBlock, kRidgeBlock);
  const auto rows = source(LoadUnit::kRows, LoadUse::kTrain, block * peers_.size(), 1, false, true);
  auto gathering = meter_->time("gather", static_cast<double>(train_rows_));
  gather_ridge_sums(*rows, options, sums, [&](int64_t n) {
    progress.advance(n);
    state.tokens += n;
    // Sums of part of the data are not worth keeping: the pass starts again.
    if (stop_requested())
      throw stopped_error("nothing of the ridge stage is kept; it starts again");
  });
  progress.finish();
  gathering.stop();
  if (!peers_.alone()) {
    for (RidgeSums* part : {&sums.train, &sums.heldout})
      part->sum_over([&](at::Tensor& tensor) { peers_.sum(tensor); });
  }
  if (!peers_.main()) return;  // process 0 solves, the others wait for its checkpoint
  state.tokens = train_rows_;
  auto solving = meter_->time("solve");
  const RidgeSolution solution =
      solve_ridge(sums.train, sums.heldout.count() > 0 ? &sums.heldout : nullptr, options);
  for (const std::string& note : solution.notes) log_warning(note);
  RidgeProjector projector(info_.source.shape, info_.target.shape, options);
  projector.to(device_, at::kFloat);
  projector.adopt(solution);
  save_control(sums);
  solving.stop();
  auto keeping = meter_->time("keep");
  keeping.stop(keep_sums(sums));

  state.step = state.total_steps = 1;
  ++state.global_step;
  state.seconds += wall_seconds() - begin;
  const auto held = validation(projector.target_statistics());
  if (held->rows() > 0) {
    const auto timer = meter_->time("validate", static_cast<double>(held->rows()));
    state.validation = held->run(projector);
    state.last_loss =
        1 -
        (state.validation["key_r2"].get<double>() + state.validation["value_r2"].get<double>()) / 2;
    state.first_loss = 1;  // the zero map predicts the mean
    for (auto& observer : folder_.observers()) observer->validation(state, state.validation);
  }
  report_rows(solution, state);
  state.stage_finished = true;
  folder_.finish(state);
  for (auto& observer : folder_.observers()) observer->before_save(state);
  folder_.save(checkpoint_of(projector, state));
}

// Whether there were rows enough for what is read of each: what more rows would give.
void TrainRun::report_rows(const RidgeSolution& solution, TrainState& state) const {
  nlohmann::json numbers = {{"rows", solution.rows},
                            {"features", solution.features},
                            {"rows_per_feature", solution.rows_per_feature()}};
  std::string text = cat("ridge: ", solution.rows, " rows for ", solution.features, " features, ",
                         solution.rows_per_feature(), " rows a feature");
  if (!solution.heldout_r2.defined()) {
    state.validation["ridge"] = numbers;
    folder_.remark(text);
    return;
  }
  double most = 0;
  std::string held, doubled;
  for (int64_t part = 0; part < 2; ++part) {
    const std::string name = part == 0 ? "key" : "value", mark = part == 0 ? " K " : " V ";
    const auto mean = [&](const at::Tensor& r2) { return r2[part].mean().item<double>(); };
    numbers["fitted_" + name + "_r2"] = mean(solution.fitted_r2);
    numbers["heldout_" + name + "_r2"] = mean(solution.heldout_r2);
    numbers["doubled_" + name + "_r2"] = mean(solution.doubled_r2);
    most = std::max(most, mean(solution.doubled_r2) - mean(solution.heldout_r2));
    held += cat(mark, mean(solution.heldout_r2));
    doubled += cat(mark, mean(solution.doubled_r2));
  }
  state.validation["ridge"] = numbers;
  folder_.remark(cat(text, ", lambda ", solution.lambda.min().item<double>(), " to ",
                     solution.lambda.max().item<double>(), "; held-out R2", held,
                     ", with twice the rows about", doubled));
  if (most > kWorthMoreRows) {
    log_warning(cat("ridge: too few rows for what it reads (", solution.rows_per_feature(),
                    " a feature; twice as many would raise the held-out R2 by ", most,
                    "): add documents, or read less (projector.ridge.candidate_layers, "
                    "previous_tokens)"));
  }
}

void TrainRun::add_earlier(RidgeSumsPair& sums) const {
  for (const std::string& earlier : recipe_.projector.ridge.add_sums) {
    const fs::path folder = resolve_path(earlier);
    for (const auto& [file, into] :
         {std::pair{"train.safetensors", &sums.train}, {"heldout.safetensors", &sums.heldout}}) {
      RidgeSums more(into->source_shape(), info_.target.shape, into->joint(), device_,
                     into->candidates());
      more.load(read_tensors(folder / file), (folder / file).string());
      into->merge(more);
    }
  }
}

// So that more data can be added later (projector.ridge.add_sums). Returns the bytes written.
double TrainRun::keep_sums(const RidgeSumsPair& sums) {
  const fs::path folder = context_.paths.run / "ridge-sums";
  make_directories(folder);
  double bytes = 0;
  for (const auto& [file, part] :
       {std::pair{"train.safetensors", &sums.train}, {"heldout.safetensors", &sums.heldout}}) {
    write_tensors(folder / file, part->tensors());
    bytes += static_cast<double>(fs::file_size(folder / file));
  }
  return bytes;
}

// The map from the one layer at the same relative depth: known to fail on behaviour, so evaluation
// shows it as a control.
void TrainRun::save_control(const RidgeSumsPair& sums) {
  RidgeOptions options = recipe_.projector.ridge;
  options.source_layers = 1;
  options.selection = "aligned";
  options.previous_tokens = 0;
  RidgeProjector control(info_.source.shape, info_.target.shape, options);
  const auto solve = [&](const RidgeSums& train, const RidgeSums& heldout) {
    control.adopt(solve_ridge(train, heldout.count() > 0 ? &heldout : nullptr, options));
  };
  if (previous_tokens() == 0) {
    solve(sums.train, sums.heldout);
  } else {
    const int64_t layers = info_.source.shape.layers;
    solve(sums.train.first_layers(layers), sums.heldout.first_layers(layers));
  }
  TrainState state;
  state.stage = "ridge_aligned";
  state.stage_finished = true;
  const fs::path temporary = context_.paths.run / ".ridge_aligned.tmp";
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  make_directories(temporary);
  write_checkpoint(checkpoint_of(control, state), temporary);
  publish_directory(temporary, context_.paths.run / "ridge_aligned");
}

}  // namespace kvlingua
