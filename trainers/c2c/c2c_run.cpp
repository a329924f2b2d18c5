#include "trainers/c2c/c2c_run.h"

#include <ATen/ATen.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "checkpoints/c2c_import.h"
#include "checkpoints/load_projector.h"
#include "checkpoints/provenance.h"
#include "checkpoints/store.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/sha256.h"
#include "trainers/c2c/fusion_objective.h"
#include "trainers/engine/peers.h"
#include "trainers/engine/plan.h"
#include "trainers/engine/run_folder.h"
#include "trainers/engine/trainer.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kStage = "c2c";

bool is_c2c_folder(const fs::path& folder) {
  return fs::exists(folder / "projector_config.json") ||
         fs::exists(folder / "final" / "projector_config.json");
}

std::string line(const std::string& name, const std::string& value) {
  return name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + value + "\n";
}

class C2cRun {
 public:
  C2cRun(const Recipe& recipe, const RunContext& context);
  TrainResult execute();

 private:
  void fit(const std::optional<Checkpoint>& resumed, const std::string& where);
  std::unique_ptr<C2CProjector> fresh_projector() const;
  // A start from elsewhere: a C2C folder or another run's checkpoint.
  void start_from(C2CProjector& projector);
  void adopt_training_state(Trainer& trainer, FusionObjective& objective, TrainState& state);
  std::string plan_text() const;
  OrderedJson plan_json() const;
  Provenance provenance() const;
  double flops_per_step() const;

  const Recipe& recipe_;
  const RunContext& context_;
  const C2cTrainOptions& options_;
  at::Device device_;
  uint64_t seed_;
  OpenModel source_, target_;
  std::unique_ptr<C2CProjector> projector_;
  std::unique_ptr<FusionObjective> objective_;
  std::string alignment_, corpus_sha256_;
  int64_t conversations_ = 0, left_out_ = 0, total_steps_ = 0, tokens_per_step_ = 0;
  std::optional<C2CTrainingState> adopted_;
  Peers peers_;
  std::optional<StageMeter> meter_;
  RunFolder folder_;
};

C2cRun::C2cRun(const Recipe& recipe, const RunContext& context)
    : recipe_(recipe),
      context_(context),
      options_(recipe.train.c2c),
      device_(context.device),
      seed_(static_cast<uint64_t>(context.seed_or(recipe.train.seed))),
      source_(open_model(recipe.pair.source, device_)),
      target_(open_model(recipe.pair.target, device_)),
      folder_(recipe, context) {
  const ChatReader target{&target_.tokenizer(),
                          chat_family_of(recipe.pair.target, target_.tokenizer())};
  const ChatReader source{&source_.tokenizer(),
                          recipe.pair.alignment == "identity"
                              ? target.family
                              : chat_family_of(recipe.pair.source, source_.tokenizer())};
  Sha256 files;
  for (const std::string& file : recipe.data.files) files.update(sha256_file(resolve_path(file)));
  corpus_sha256_ = files.hex();
  FusionCorpus corpus =
      make_fusion_corpus(recipe, target, source, source_.model.config().vocab_size, seed_);
  Random(mix(seed_, hash_name("fusion split"))).shuffle(corpus.items);
  conversations_ = static_cast<int64_t>(corpus.items.size());
  left_out_ = corpus.left_out;
  alignment_ = corpus.alignment;
  int64_t tokens = 0;
  for (const FusionItem& item : corpus.items) tokens += item.tokens();

  projector_ = fresh_projector();
  FusionObjectiveOptions options{.train = options_, .seed = seed_};
  options.order =
      recipe.projector.c2c.fusion == "parallel" ? FusionOrder::kParallel : FusionOrder::kSequential;
  options.rank = context.world.rank;
  options.world = context.world.size;
  options.cache_file =
      context.paths.run /
      (options.rank == 0 ? std::string(".source-cache") : cat(".source-cache-", options.rank));
  const double read =
      options_.batch.steps > 0
          ? static_cast<double>(options_.batch.steps) *
                static_cast<double>(options_.batch.size * options_.batch.accumulation)
          : options_.batch.epochs * static_cast<double>(conversations_);
  options.several_epochs = read > static_cast<double>(conversations_);
  objective_ = std::make_unique<FusionObjective>(*projector_, source_.model, target_.model,
                                                 std::move(corpus.items), options);
  total_steps_ = objective_->steps(options_.batch);
  tokens_per_step_ = tokens / conversations_ * options_.batch.size * options_.batch.accumulation;
}

std::unique_ptr<C2CProjector> C2cRun::fresh_projector() const {
  if (recipe_.projector.kind != "c2c" || recipe_.projector.c2c.mode != "fuse") {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train.stages: c2c",
                 .what = "trains Cache-to-Cache's projector in fuse mode",
                 .got = cat("projector.kind ", recipe_.projector.kind, ", projector.c2c.mode ",
                            recipe_.projector.c2c.mode),
                 .expected = "projector.kind c2c, projector.c2c.mode fuse",
                 .remedy = "for translate mode use stage distillation"});
  }
  const uint64_t seed = mix(seed_, hash_name("weights"));
  auto projector = std::make_unique<C2CProjector>(
      source_.model.kv_shape(), target_.model.kv_shape(), recipe_.projector.c2c, seed);
  // On a GPU the towers compute in the target's type, as Cache-to-Cache does; the optimizer keeps
  // float32 masters of half weights.
  at::ScalarType dtype = resolve_dtype(recipe_.projector.dtype, device_);
  if (device_.is_cuda() && dtype == at::kFloat) dtype = target_.model.dtype();
  if (options_.low_precision_weights) dtype = at::kBFloat16;
  projector->to(device_, dtype);
  return projector;
}

void C2cRun::start_from(C2CProjector& projector) {
  if (recipe_.train.start_from.empty()) return;
  const fs::path folder = resolve_path(recipe_.train.start_from);
  if (!is_c2c_folder(folder)) {
    const LoadedProjector other = load_projector(folder);
    projector.load_state(by_name(other.projector->state()), other.path.string());
    folder_.remark(cat("c2c: starts from ", other.path.string()));
    return;
  }
  const C2CProjector theirs(
      read_c2c_directory(folder, C2CShapes{source_.model.kv_shape(), target_.model.kv_shape()}),
      "fuse");
  projector.load_state(by_name(theirs.state()), folder.string());
  const fs::path state = folder / "training_state.pt";
  if (!fs::exists(state)) {
    folder_.remark(
        cat("c2c: starts from the weights of ", folder.string(), "; no training_state.pt"));
    return;
  }
  adopted_ = read_c2c_training_state(state, theirs.fuser());
  folder_.remark(cat("c2c: goes on from step ", adopted_->step, " of ", folder.string(),
                     " with its optimizer state; the order of the data is this program's own"));
}

void C2cRun::adopt_training_state(Trainer& trainer, FusionObjective& objective, TrainState& state) {
  if (!adopted_) return;
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> moments;
  const auto& parameters = projector_->fuser().parameters();
  for (size_t i = 0; i < parameters.size(); ++i)
    moments[parameters[i].first] = adopted_->moments[i];
  trainer.adopt_moments(moments, adopted_->step);
  objective.seek(adopted_->step, options_.batch.accumulation);
  state.step = state.global_step = adopted_->step;
}

// Products alone: the projector forward and backward on the prompts, the source's and the target's
// reading, and the way back through the answers. Half of a conversation is taken to be prompt.
double C2cRun::flops_per_step() const {
  const auto count = [](const CausalLM& m) {
    return static_cast<double>(m.config().parameter_count());
  };
  const double tokens = static_cast<double>(tokens_per_step_);
  return tokens * (3.0 * static_cast<double>(projector_->parameter_count()) +
                   1.0 * count(source_.model) + 3.0 * count(target_.model));
}

std::string C2cRun::plan_text() const {
  std::string out = line("run", recipe_.run_name());
  out += line("source", recipe_.pair.source.name + ", " + source_.model.kv_shape().describe());
  out += line("target", recipe_.pair.target.name + ", " + target_.model.kv_shape().describe());
  out += line("projector",
              cat("c2c, ", recipe_.projector.dtype, ", ",
                  count_text(static_cast<double>(projector_->parameter_count())), " parameters"));
  out += line("data", cat(conversations_, " conversations (", left_out_, " left out), ",
                          objective_->train_items(), " train, alignment ", alignment_));
  const int64_t kept = objective_->sources().bytes();
  out += line("source cache", kept > 0 ? bytes_text(static_cast<double>(kept)) + " kept"
                                       : std::string("read for every batch"));
  const double rate = measure_gemm_rate(context_.device);
  char text[64];
  std::snprintf(text, sizeof text, ", %.0f GFLOP/s measured", rate / 1e9);
  out += line("device", context_.device + text);
  out +=
      line(kStage, cat(total_steps_, " steps of ", options_.batch.size, " x ",
                       options_.batch.accumulation, " conversations, about ",
                       duration_text(flops_per_step() / rate * static_cast<double>(total_steps_)),
                       " of products"));
  return out;
}

OrderedJson C2cRun::plan_json() const {
  OrderedJson j;
  j["stage"] = kStage;
  j["steps"] = total_steps_;
  j["conversations"] = conversations_;
  j["left_out"] = left_out_;
  j["alignment"] = alignment_;
  j["parameters"] = projector_->parameter_count();
  return OrderedJson::array({j});
}

TrainResult C2cRun::execute() {
  TrainResult result;
  result.plan = plan_text();
  if (context_.dry_run) {
    result.dry_run = true;
    result.stages = plan_json();
    return result;
  }
  peers_ = Peers(context_);
  std::string where = context_.restart ? std::string() : folder_.find(kStage, peers_);
  std::optional<Checkpoint> resumed;
  if (!where.empty()) {
    resumed = read_checkpoint(where);
    folder_.refuse_other(*resumed, where, provenance());
  }
  if (peers_.main()) {
    folder_.open({});
    folder_.begin();
  }
  peers_.wait();
  folder_.remark(result.plan);
  if (resumed && resumed->state.stage_finished) {
    folder_.adopt(*resumed, where);
  } else {
    meter_.emplace(device_);
    fit(resumed, where);
    peers_.wait();
    folder_.measured(meter_->to_json());
  }
  result.stages = folder_.results();
  return result;
}

// The corpus stands for the pairs: conversations are read each time.
Provenance C2cRun::provenance() const {
  Provenance made{stage_recipe(recipe_, kStage, static_cast<int64_t>(seed_)), corpus_sha256_, {}};
  if (recipe_.train.start_from.empty()) return made;
  const fs::path from = follow_link(resolve_path(recipe_.train.start_from));
  if (fs::exists(from / "projector.json")) {
    made.start = projector_sha256(from);
  } else if (const auto found = find_checkpoint(from)) {
    made.start = projector_sha256(found->path);
  } else if (fs::exists(from / "projector_0.pt")) {
    made.start = sha256_file(from / "projector_0.pt");
  }
  return made;
}

void C2cRun::fit(const std::optional<Checkpoint>& resumed, const std::string& where) {
  TrainState state;
  state.stage = kStage;
  at::manual_seed(mix(seed_, hash_name(kStage)));
  if (resumed) {
    folder_.resume(*resumed, where);
    state = resumed->state;
    projector_->load_state(by_name(resumed->projector), where);
  } else {
    start_from(*projector_);
  }
  state.total_steps = total_steps_;

  TrainerOptions options{.optimizer = options_.optimizer};
  options.accumulation = options_.batch.accumulation;
  options.total_steps = total_steps_;
  options.validate_every = options_.validate_every;
  options.save_every = recipe_.checkpoint.every;
  options.log_every = recipe_.train.log_every;
  options.transformers_schedule = options.decay_all = true;
  options.master_copy = !options_.low_precision_weights;
  options.peers = peers_;
  options.meter = &*meter_;
  const auto identity = [](const ModelOptions& o, const OpenModel& m) {
    return ModelIdentity{o.name, to_string(m.model.config().architecture), m.model.fingerprint(),
                         m.tokenizer().fingerprint(), m.model.kv_shape()};
  };
  const PairIdentity pair{identity(recipe_.pair.source, source_),
                          identity(recipe_.pair.target, target_), alignment_};
  Trainer trainer(*projector_, *objective_, options, folder_.observers(), [&](const Checkpoint& c) {
    Checkpoint checkpoint = c;
    if (checkpoint.state.stage_finished) folder_.finish(checkpoint.state);
    checkpoint.pair = pair;
    checkpoint.made_by = provenance().to_json();
    checkpoint.recipe_yaml = recipe_.to_yaml();
    return folder_.save(checkpoint);
  });
  if (resumed) {
    trainer.resume(*resumed, where);
  } else {
    adopt_training_state(trainer, *objective_, state);
  }
  for (const auto& observer : folder_.observers()) observer->begin(state, resumed.has_value());
  trainer.fit(state);
  folder_.wait();
}

}  // namespace

TrainResult train_c2c(const Recipe& recipe, const RunContext& context) {
  const int64_t accumulation = recipe.train.c2c.batch.accumulation, world = context.world.size;
  if (accumulation % world != 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train.c2c.batch.accumulation",
                 .what = "the micro-batches of a step cannot be dealt to the processes",
                 .got = cat(accumulation, " micro-batches, ", world, " processes"),
                 .expected = "a multiple of their number",
                 .remedy = cat("--set train.c2c.batch.accumulation=",
                               (accumulation + world - 1) / world * world)});
  }
  return C2cRun(recipe, context).execute();
}

}  // namespace kvlingua
