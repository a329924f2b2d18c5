#include "trainers/train.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "checkpoints/load_projector.h"
#include "checkpoints/store.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/cache/tensor_file.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/hub.h"
#include "kvlingua/io/system.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/mlp.h"
#include "kvlingua/projector/ridge.h"
#include "trainers/distillation.h"
#include "trainers/distillation_items.h"
#include "trainers/observer.h"
#include "trainers/pair_source.h"
#include "trainers/plan.h"
#include "trainers/regression.h"
#include "trainers/ridge_fit.h"
#include "trainers/trainer.h"
#include "trainers/validation.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr int64_t kValidationRows = 4096;  // at most; fewer where rows are wide
constexpr int64_t kTokenMeanRows = 20000;  // training rows of the token-identity baseline
constexpr int64_t kValidationBytes = 256 << 20;
constexpr int64_t kRidgeBlock = 4096;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ModelIdentity identity_of(const ModelRecord& record) {
  return {record.name, record.architecture, record.weights, record.tokenizer, record.shape};
}

// The linear map inside a projector, if there is one.
RidgeProjector* base_of(Projector& projector) {
  if (auto* ridge = dynamic_cast<RidgeProjector*>(&projector)) return ridge;
  if (auto* mlp = dynamic_cast<MlpProjector*>(&projector)) return &mlp->base();
  return nullptr;
}

std::map<std::string, at::Tensor> by_name(const NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

struct FrozenModels {
  CausalLM source, target;
  Tokenizer source_tokenizer, target_tokenizer;
  DistillationReader source_reader, target_reader;
};

// One run of `train`: what all stages share, and one function a stage.
class TrainRun {
 public:
  TrainRun(const Recipe& recipe, const RunContext& context);
  TrainResult execute();

 private:
  void ridge(TrainState state);
  void gradient(TrainState state, const std::optional<Checkpoint>& resumed,
                const std::string& where);

  std::vector<std::string> stages() const;
  std::optional<Checkpoint> previous(const std::string& stage, std::string& where);
  std::unique_ptr<Projector> projector_for(const std::optional<Checkpoint>& from,
                                           const std::string& where);
  std::unique_ptr<Objective> objective_for(const std::string& stage, Projector& projector);
  std::shared_ptr<Validation> validation(const ChannelStatistics& statistics);
  const std::pair<ChannelStatistics, ChannelStatistics>& statistics();
  TrainerOptions trainer_options(const std::string& stage, const Objective& objective) const;
  const FrozenModels& frozen_models();
  void keep_sums(const RidgeSumsPair& sums);
  void save_control(const RidgeSumsPair& sums);
  void finish(TrainState& state);
  void remark(const std::string& line);
  Checkpoint checkpoint_of(const Projector& projector, const TrainState& state) const;
  std::unique_ptr<BatchSource> source(LoadUnit unit, LoadUse use, int64_t batch, int64_t epochs,
                                      bool shuffle) const;

  const Recipe& recipe_;
  const RunContext& context_;
  PairSetInfo info_;
  int64_t train_rows_ = 0, validation_samples_ = 0, row_bytes_ = 0;
  PairIdentity pair_;
  at::Device device_;
  uint64_t seed_;
  std::unique_ptr<CheckpointStore> store_;
  Observers observers_;
  TrainResult result_;
  std::shared_ptr<Validation> validation_;
  std::unique_ptr<FrozenModels> models_;
  std::optional<std::pair<ChannelStatistics, ChannelStatistics>> statistics_;
};

TrainRun::TrainRun(const Recipe& recipe, const RunContext& context)
    : recipe_(recipe),
      context_(context),
      device_(context.device),
      seed_(static_cast<uint64_t>(context.seed_or(recipe.train.seed))) {
  if (!context.world.alone()) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train",
                 .what = "several processes are not supported in this version",
                 .got = cat("WORLD_SIZE ", context.world.size),
                 .expected = "one process",
                 .remedy = "run it without torchrun; ridge sums of several machines can be merged "
                           "with projector.ridge.add_sums"});
  }
  const PairReader reader = PairReader::open(context.paths.dataset);
  info_ = reader.info();
  for (int64_t s = 0; s < reader.shards(); ++s) {
    const ShardIndex& index = reader.shard(s).index();
    for (int64_t i = 0; i < index.samples(); ++i) {
      const auto at = static_cast<size_t>(i);
      validation_samples_ += index.use[at] == SampleUse::kValidation;
      if (index.use[at] == SampleUse::kTrain)
        train_rows_ += index.target_row_offsets[at + 1] - index.target_row_offsets[at];
    }
  }
  pair_ = {identity_of(info_.source), identity_of(info_.target), info_.alignment};
  row_bytes_ = 8 * (info_.source.shape.layers * info_.source.shape.width() +
                    info_.target.shape.layers * info_.target.shape.width());
}

std::vector<std::string> TrainRun::stages() const {
  if (context_.stage.empty()) return recipe_.train.stages;
  return {context_.stage};
}

std::unique_ptr<BatchSource> TrainRun::source(LoadUnit unit, LoadUse use, int64_t batch,
                                              int64_t epochs, bool shuffle) const {
  return make_pair_source(context_.paths.dataset, {.unit = unit,
                                                   .use = use,
                                                   .batch_size = batch,
                                                   .shuffle = shuffle,
                                                   .seed = mix(seed_, hash_name("data order")),
                                                   .epochs = epochs,
                                                   .device = device_});
}

void TrainRun::remark(const std::string& line) {
  for (auto& observer : observers_) observer->remark(line);
}

Checkpoint TrainRun::checkpoint_of(const Projector& projector, const TrainState& state) const {
  Checkpoint c;
  c.state = state;
  c.pair = pair_;
  c.projector_config = projector.config();
  c.projector = projector.state();
  c.rng = RngState::capture();
  c.recipe_yaml = recipe_.to_yaml();
  return c;
}

TrainResult TrainRun::execute() {
  const TrainPlan plan = make_train_plan(recipe_, info_.source.shape, info_.target.shape,
                                         train_rows_, stages(), context_.device);
  result_.plan =
      plan.text(recipe_, info_.source.shape, info_.target.shape, train_rows_, context_.device);
  if (context_.dry_run) {
    result_.dry_run = true;
    result_.stages = plan.to_json();
    return result_;
  }
  const fs::path& run = context_.paths.run;
  store_ = std::make_unique<CheckpointStore>(run, recipe_.checkpoint);
  if (context_.restart)
    store_->clear(context_.stage.empty() ? std::vector<std::string>{} : stages());
  write_file_atomic(run / "recipe.yaml", recipe_.to_yaml());
  observers_.push_back(make_console_observer());
  observers_.push_back(make_json_lines_observer(run));
  if (recipe_.train.tensorboard) observers_.push_back(make_tensorboard_observer(run));
  for (size_t begin = 0, end; begin < result_.plan.size(); begin = end + 1) {
    end = result_.plan.find('\n', begin);
    remark(result_.plan.substr(begin, end - begin));
  }

  for (const std::string& stage : stages()) {
    std::vector<std::string> skipped;
    const auto found = find_checkpoint(run, &skipped, stage);
    for (const std::string& line : skipped) log_warning("skipped a damaged checkpoint: " + line);
    std::optional<Checkpoint> mine;
    if (found) mine = read_checkpoint(found->path);
    if (mine && mine->state.stage_finished) {
      remark(stage + ": done already, " + found->path.string());
      result_.stages.push_back(OrderedJson::parse(mine->state.results.back().dump()));
      continue;
    }
    TrainState state;
    if (mine) {
      if (mine->recipe_yaml != recipe_.to_yaml())
        log_warning(stage + ": the recipe has changed since the checkpoint that it goes on from");
      state = mine->state;
      remark(cat(stage, ": goes on from step ", state.step, ", ", found->path.string()));
    }
    state.stage = stage;
    if (stage == "ridge") {
      ridge(std::move(state));
    } else {
      gradient(std::move(state), mine, found ? found->path.string() : "");
    }
  }
  store_->wait();
  return result_;
}

// What a stage starts from: the newest checkpoint of an earlier stage, or of another run.
std::optional<Checkpoint> TrainRun::previous(const std::string& stage, std::string& where) {
  const auto& order = recipe_.train.stages;
  const auto mine = std::find(order.begin(), order.end(), stage);
  for (auto it = std::make_reverse_iterator(mine); it != order.rend(); ++it) {
    if (const auto found = find_checkpoint(context_.paths.run, nullptr, *it)) {
      where = found->path.string();
      return read_checkpoint(found->path);
    }
  }
  if (recipe_.train.start_from.empty()) return std::nullopt;
  const LoadedProjector other = load_projector(resolve_path(recipe_.train.start_from));
  where = other.path.string();
  Checkpoint checkpoint = read_checkpoint(other.path);
  for (const auto& [role, theirs, ours] :
       {std::tuple{"source", checkpoint.pair.source, pair_.source},
        {"target", checkpoint.pair.target, pair_.target}}) {
    if (theirs.shape == ours.shape) continue;
    throw Error({.code = ExitCode::kInput,
                 .where = cat(where, ": ", role, " model"),
                 .what = "train.start_from is of another pair",
                 .got = cat(theirs.shape.describe(), " (", theirs.name, ")"),
                 .expected = cat(ours.shape.describe(), " (", ours.name, ")")});
  }
  checkpoint.state = TrainState{};
  return checkpoint;
}

std::unique_ptr<Projector> TrainRun::projector_for(const std::optional<Checkpoint>& from,
                                                   const std::string& where) {
  ProjectorOptions options = recipe_.projector;
  options.mlp.seed = static_cast<int64_t>(
      mix(mix(seed_, hash_name("weights")), static_cast<uint64_t>(options.mlp.seed)) >> 1);
  std::unique_ptr<Projector> projector;
  const std::string kind = from ? from->projector_config.value("kind", "") : "";
  if (from && (kind == options.kind || from->state.stage == "ridge")) {
    projector = make_projector(info_.source.shape, info_.target.shape, options);
    if (kind == options.kind) {
      projector->load_state(by_name(from->projector), where);
    } else if (RidgeProjector* base = base_of(*projector)) {
      base->load_state(by_name(from->projector), where);
    }
  } else if (from) {
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = "the stage before trained another kind of projector",
                 .got = kind,
                 .expected = options.kind,
                 .remedy = "use --restart, or another checkpoint.name"});
  } else {
    projector = make_projector(info_.source.shape, info_.target.shape, options);
    if (RidgeProjector* base = base_of(*projector))
      base->set_statistics(statistics().first, statistics().second);
  }
  projector->to(device_, resolve_dtype(options.dtype, device_));
  return projector;
}

// Channel statistics of both sides, from at most kTokenMeanRows training rows; only asked for when
// no ridge stage has gathered them.
const std::pair<ChannelStatistics, ChannelStatistics>& TrainRun::statistics() {
  if (statistics_) return *statistics_;
  ChannelSums source_sums(info_.source.shape, device_), target_sums(info_.target.shape, device_);
  const auto rows = source(LoadUnit::kRows, LoadUse::kTrain, kRidgeBlock, 1, true);
  while (target_sums.count() < kTokenMeanRows) {
    const auto batch = rows->next();
    if (!batch) break;
    source_sums.add(batch->source);
    target_sums.add(batch->target);
  }
  statistics_ = {source_sums.statistics(), target_sums.statistics()};
  return *statistics_;
}

std::shared_ptr<Validation> TrainRun::validation(const ChannelStatistics& target_statistics) {
  if (validation_) return validation_;
  const int64_t limit = std::min(kValidationRows, kValidationBytes / row_bytes_);
  std::vector<TrainBatch> held;
  const auto collect = [&](LoadUse use, int64_t most, const auto& take) {
    const auto rows = source(LoadUnit::kSequences, use, 8, 1, use == LoadUse::kTrain);
    for (int64_t n = 0; n < most;) {
      auto batch = rows->next();
      if (!batch) break;
      n += batch->rows();
      take(std::move(*batch));
    }
  };
  if (validation_samples_ > 0)
    collect(LoadUse::kValidation, limit, [&](TrainBatch b) { held.push_back(std::move(b)); });
  validation_ = std::make_shared<Validation>(std::move(held), target_statistics);
  if (validation_samples_ > 0) {
    collect(LoadUse::kTrain, kTokenMeanRows,
            [&](const TrainBatch& b) { validation_->fit_token_means(b); });
  }
  return validation_;
}

// The result line of a finished stage, its last checkpoint, and what --json prints.
void TrainRun::finish(TrainState& state) {
  OrderedJson result;
  result["stage"] = state.stage;
  result["steps"] = state.step;
  result["tokens"] = state.tokens;
  result["seconds"] = state.seconds;
  result["tokens_per_second"] =
      state.seconds > 0 ? static_cast<double>(state.tokens) / state.seconds : 0.0;
  result["first_loss"] = state.first_loss;
  result["last_loss"] = state.last_loss;
  OrderedJson validation = OrderedJson::object();
  for (const char* name : {"key_r2", "value_r2", "key_cosine", "value_cosine",
                           "attention_output_cosine", "kl", "baselines", "per_layer"}) {
    if (state.validation.is_object() && state.validation.contains(name))
      validation[name] = state.validation[name];
  }
  result["validation"] = validation;
  result["checkpoint"] = (context_.paths.run / state.stage).string();
  state.results.push_back(nlohmann::json::parse(result.dump()));
  result_.stages.push_back(result);
}

// ---- ridge ----

void TrainRun::ridge(TrainState state) {
  const double begin = now();
  const RidgeOptions& options = recipe_.projector.ridge;
  const uint64_t available = device_.is_cpu() ? available_memory_bytes() : 0;
  RidgeSumsPair sums =
      make_ridge_sums(info_.source.shape, info_.target.shape, options, device_, available);
  for (const std::string& earlier : options.add_sums) {
    const fs::path folder = resolve_path(earlier);
    for (const auto& [file, into] :
         {std::pair{"train.safetensors", &sums.train}, {"heldout.safetensors", &sums.heldout}}) {
      RidgeSums more(info_.source.shape, info_.target.shape, into->joint(), device_,
                     into->candidates());
      more.load(read_tensors(folder / file), (folder / file).string());
      into->merge(more);
    }
  }
  for (auto& observer : observers_) observer->begin(state, false);
  Progress progress("ridge", train_rows_, "rows");
  const auto rows = source(LoadUnit::kRows, LoadUse::kTrain, kRidgeBlock, 1, false);
  gather_ridge_sums(*rows, options, sums, [&](int64_t n) {
    progress.advance(n);
    state.tokens += n;
    // Sums of part of the data are not worth keeping: the pass starts again.
    if (stop_requested())
      throw stopped_error("nothing of the ridge stage is kept; it starts again");
  });
  progress.finish();
  const RidgeSolution solution =
      solve_ridge(sums.train, sums.heldout.count() > 0 ? &sums.heldout : nullptr, options);
  for (const std::string& note : solution.notes) log_warning(note);
  RidgeProjector projector(info_.source.shape, info_.target.shape, options);
  projector.to(device_, at::kFloat);
  projector.adopt(solution);
  keep_sums(sums);
  save_control(sums);

  state.step = state.total_steps = 1;
  ++state.global_step;
  state.seconds += now() - begin;
  const auto held = validation(projector.target_statistics());
  if (held->rows() > 0) {
    state.validation = held->run(projector);
    state.last_loss =
        1 -
        (state.validation["key_r2"].get<double>() + state.validation["value_r2"].get<double>()) / 2;
    state.first_loss = 1;  // the zero map predicts the mean
    for (auto& observer : observers_) observer->validation(state, state.validation);
  }
  if (solution.heldout_r2.defined()) {
    remark(cat("ridge: held-out R2 K ", solution.heldout_r2[0].mean().item<double>(), " V ",
               solution.heldout_r2[1].mean().item<double>(), ", lambda ",
               solution.lambda.min().item<double>(), " to ", solution.lambda.max().item<double>()));
  }
  state.stage_finished = true;
  finish(state);
  for (auto& observer : observers_) observer->before_save(state);
  store_->save(checkpoint_of(projector, state));
}

// So that more data can be added later (projector.ridge.add_sums).
void TrainRun::keep_sums(const RidgeSumsPair& sums) {
  const fs::path folder = context_.paths.run / "ridge-sums";
  make_directories(folder);
  write_tensors(folder / "train.safetensors", sums.train.tensors());
  write_tensors(folder / "heldout.safetensors", sums.heldout.tensors());
}

// The map from the one layer at the same relative depth: known to fail on behaviour, so evaluation
// shows it as a control.
void TrainRun::save_control(const RidgeSumsPair& sums) {
  RidgeOptions options = recipe_.projector.ridge;
  options.source_layers = 1;
  options.selection = "aligned";
  RidgeProjector control(info_.source.shape, info_.target.shape, options);
  control.adopt(
      solve_ridge(sums.train, sums.heldout.count() > 0 ? &sums.heldout : nullptr, options));
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

// ---- regression and distillation ----

TrainerOptions TrainRun::trainer_options(const std::string& stage,
                                         const Objective& objective) const {
  TrainerOptions options;
  const auto take = [&](const auto& from) {
    options.optimizer = from.optimizer;
    options.accumulation = from.batch.accumulation;
    options.total_steps = planned_steps(from.batch, objective.micro_batches_per_epoch());
    options.validate_every = from.validate_every;
    options.patience = from.patience;
    options.train_base = from.train_base;
  };
  if (stage == "regression") take(recipe_.train.regression);
  if (stage == "distillation") take(recipe_.train.distillation);
  options.save_every = recipe_.checkpoint.every;
  options.log_every = recipe_.train.log_every;
  return options;
}

std::unique_ptr<Objective> TrainRun::objective_for(const std::string& stage, Projector& projector) {
  const RidgeProjector* base = base_of(projector);
  const ChannelStatistics target =
      base != nullptr ? base->target_statistics() : statistics().second;
  if (stage == "regression") {
    const RegressionOptions& options = recipe_.train.regression;
    const bool sequences = options.attention_weight > 0;
    auto data = source(sequences ? LoadUnit::kSequences : LoadUnit::kRows, LoadUse::kTrain,
                       options.batch.size, 0, true);
    return std::make_unique<RegressionObjective>(projector, target, options, std::move(data),
                                                 validation(target));
  }
  if (stage == "distillation") {
    const DistillationOptions& options = recipe_.train.distillation;
    const FrozenModels& models = frozen_models();
    const AlignmentKind alignment = alignment_kind_from_name(recipe_.pair.alignment);
    auto items = make_distillation_items(options, recipe_.data.synthetic.style, seed_,
                                         models.source_reader, models.target_reader, alignment);
    remark(cat("distillation: ", items.size(),
               " contexts with a question or the beginning of an answer"));
    const FrozenPair pair{&models.source, &models.target, models.source_reader.before,
                          models.target_reader.before};
    return std::make_unique<DistillationObjective>(projector, pair, std::move(items), target,
                                                   options, seed_, validation(target));
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "train.stages",
               .what = "stage is not in this version",
               .got = stage});
}

// Loaded when the first stage asks for them; refused when they are not the ones the pairs were made
// with.
const FrozenModels& TrainRun::frozen_models() {
  if (models_) return *models_;
  const auto load = [&](const ModelOptions& options, const ModelRecord& record, const char* role) {
    const fs::path directory = resolve_model(resolve_path(options.name));
    LoadOptions how{.device = device_, .dtype = resolve_dtype(options.dtype, device_)};
    CausalLM model = CausalLM::load(directory, how);
    if (!record.weights.empty() && model.fingerprint() != record.weights) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat("pair.", role, ".name"),
                   .what = "not the model the pairs were generated with",
                   .got = cat(options.name, ", ", model.fingerprint().substr(0, 16)),
                   .expected = cat(record.name, ", ", record.weights.substr(0, 16)),
                   .remedy = "generate the pairs again"});
    }
    return std::pair{std::move(model), Tokenizer::from_directory(directory)};
  };
  auto [source, source_tokenizer] = load(recipe_.pair.source, info_.source, "source");
  auto [target, target_tokenizer] = load(recipe_.pair.target, info_.target, "target");
  models_ = std::make_unique<FrozenModels>(FrozenModels{std::move(source),
                                                        std::move(target),
                                                        std::move(source_tokenizer),
                                                        std::move(target_tokenizer),
                                                        {},
                                                        {}});
  FrozenModels& m = *models_;
  const auto reader = [&](const CausalLM& model, const Tokenizer& tokenizer,
                          const ModelOptions& options) {
    return make_distillation_reader(tokenizer, options, recipe_.data.chat, model.config().eos_ids,
                                    model.config().max_position_embeddings);
  };
  m.source_reader = reader(m.source, m.source_tokenizer, recipe_.pair.source);
  m.target_reader = reader(m.target, m.target_tokenizer, recipe_.pair.target);
  return m;
}

void TrainRun::gradient(TrainState state, const std::optional<Checkpoint>& resumed,
                        const std::string& where) {
  std::string from = where;
  store_->wait();
  const std::optional<Checkpoint> start = resumed ? resumed : previous(state.stage, from);
  if (!resumed && start) {
    state.global_step = start->state.global_step;
    state.results = start->state.results;
    state.metrics_bytes = start->state.metrics_bytes;
  }
  at::manual_seed(mix(seed_, hash_name(state.stage)));
  const std::unique_ptr<Projector> projector = projector_for(start, from);
  const std::unique_ptr<Objective> objective = objective_for(state.stage, *projector);
  TrainerOptions options = trainer_options(state.stage, *objective);
  if (resumed && state.total_steps != options.total_steps) {
    log_warning(cat(state.stage, ": planned for ", state.total_steps,
                    " steps when it began, now for ", options.total_steps));
  }
  state.total_steps = options.total_steps;
  Trainer trainer(*projector, *objective, options, observers_, [&](const Checkpoint& c) {
    Checkpoint checkpoint = c;
    if (checkpoint.state.stage_finished) {
      finish(checkpoint.state);
    }
    checkpoint.pair = pair_;
    checkpoint.recipe_yaml = recipe_.to_yaml();
    const fs::path path = store_->save(checkpoint);
    // A stop exits next: what it names must be there.
    if (stop_requested()) store_->wait();
    return path.string();
  });
  if (resumed) {
    trainer.resume(*resumed, from);
  } else {
    trainer.set_last_good(from);
  }
  for (auto& observer : observers_)
    observer->begin(state, resumed.has_value() || start.has_value());
  remark(cat(state.stage, ": ", options.total_steps, " steps, ", projector->parameter_count(),
             " parameters"));
  trainer.fit(state);
}

}  // namespace

OrderedJson TrainResult::to_json() const { return {{"stages", stages}}; }

std::string TrainResult::summary() const {
  std::string text;
  const auto number = [](const OrderedJson& j, const char* name) {
    char out[32] = "-";
    if (j.contains(name) && j[name].is_number())
      std::snprintf(out, sizeof out, "%.3f", j[name].get<double>());
    return std::string(out);
  };
  for (const OrderedJson& s : stages) {
    const OrderedJson& v = s.at("validation");
    text += cat(s.at("stage").get<std::string>(), ": ", s.at("steps").get<int64_t>(), " steps in ",
                duration_text(s.at("seconds").get<double>()), ", R2 K ", number(v, "key_r2"), " V ",
                number(v, "value_r2"), ", attention cosine ", number(v, "attention_output_cosine"),
                ", ", s.at("checkpoint").get<std::string>(), "\n");
  }
  return text;
}

TrainResult train(const Recipe& recipe, const RunContext& context) {
  return TrainRun(recipe, context).execute();
}

}  // namespace kvlingua
