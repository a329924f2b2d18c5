#include "trainers/engine/run_folder.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/atomic_file.h"

namespace kvlingua {

namespace fs = std::filesystem;

namespace {

// Which key of the data section has changed since, where one has.
std::string data_remark(const std::string& then, const Recipe& now) {
  const auto key = data_difference(then, now);
  return key ? cat(", ", key->field, " was ", key->made_with, " and is ", key->asked) : "";
}

}  // namespace

void RunFolder::open(const std::vector<std::string>& stages) {
  const fs::path& run = context_.paths.run;
  store_ = std::make_unique<CheckpointStore>(run, recipe_.checkpoint);
  if (context_.restart) store_->clear(stages);
}

void RunFolder::refuse_other(const Checkpoint& checkpoint, const std::string& where,
                             const Provenance& asked) const {
  const TrainState& state = checkpoint.state;
  const auto difference =
      provenance_difference(checkpoint.made_by, asked, /*growing=*/!state.stage_finished);
  if (!difference) return;
  const std::string what =
      difference->field == "pairs"   ? cat("from other pairs: their hash differs",
                                           data_remark(checkpoint.recipe_yaml, recipe_))
      : difference->field == "start" ? "from another checkpoint before it: its "
                                       "hash differs"
                                     : cat("by another recipe: ", difference->field, " differs");
  throw Error({.code = ExitCode::kInput,
               .where = where,
               .what = cat("stage ", state.stage, " was trained ", what),
               .got = difference->made_with,
               .expected = difference->asked,
               .remedy = "train it anew with --restart, or give the run another name "
                         "(checkpoint.name)"});
}

void RunFolder::begin() {
  const fs::path& run = context_.paths.run;
  observers_.push_back(make_console_observer());
  observers_.push_back(make_json_lines_observer(run));
  if (recipe_.train.tensorboard) observers_.push_back(make_tensorboard_observer(run));
}

void RunFolder::remark(const std::string& lines) const {
  for (size_t begin = 0, end; begin < lines.size(); begin = end + 1) {
    end = std::min(lines.find('\n', begin), lines.size());
    for (const auto& observer : observers_) observer->remark(lines.substr(begin, end - begin));
  }
}

std::string RunFolder::find(const std::string& stage, const Peers& peers) const {
  std::string path;
  if (peers.main()) {
    std::vector<std::string> skipped;
    if (const auto found = find_checkpoint(context_.paths.run, &skipped, stage))
      path = found->path.string();
    for (const std::string& line : skipped) log_warning("skipped a damaged checkpoint: " + line);
  }
  return peers.broadcast(path);
}

void RunFolder::resume(const Checkpoint& from, const std::string& where) const {
  const TrainState& state = from.state;
  if (from.made_by.is_null() && from.recipe_yaml != recipe_.to_yaml()) {
    log_warning(state.stage + ": the recipe has changed since the checkpoint that it goes on from");
  }
  remark(cat(state.stage, ": goes on from step ", state.step, ", ", where));
}

void RunFolder::finish(TrainState& state) {
  StageResult result{.stage = state.stage,
                     .steps = state.step,
                     .tokens = state.tokens,
                     .seconds = state.seconds,
                     .first_loss = state.first_loss,
                     .last_loss = state.last_loss,
                     .validation = state.validation.value_or(ValidationNumbers()),
                     .start_score = state.start_score,
                     .best_step = state.start_score ? state.best_step : 0,
                     .lr = state.rate,
                     .stopped = state.stopped,
                     .checkpoint = (context_.paths.run / state.stage).string()};
  state.results.push_back(result);
  results_.push_back(std::move(result));
}

void RunFolder::adopt(const Checkpoint& finished, const std::string& where) {
  remark(cat(finished.state.stage, ": done already, ", where));
  if (finished.state.results.empty()) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where,
                 .what = "a finished stage without its result",
                 .remedy = "train it anew with --restart"});
  }
  results_.push_back(finished.state.results.back());
  results_.back().checkpoint = (context_.paths.run / finished.state.stage).string();  // moved?
}

void RunFolder::measured(const nlohmann::ordered_json& took) {
  if (!results_.empty()) results_.back().took = took;
}

std::string RunFolder::save(const Checkpoint& checkpoint) {
  const fs::path path = store_->save(checkpoint);
  if (!std::exchange(recipe_written_, true))
    write_file_atomic(context_.paths.run / "recipe.yaml", recipe_.to_yaml());
  // A stop exits next: what it names must be there. Other processes wait for it too.
  if (stop_requested() || !context_.world.alone()) store_->wait();
  return path.string();
}

void RunFolder::wait() {
  if (store_) store_->wait();
}

}  // namespace kvlingua
