// Stage c2c: Cache-to-Cache's own training, from conversations instead of stored pairs.
//
// train.start_from may name a Cache-to-Cache checkpoint folder: its projectors are taken over, and
// where a training_state.pt lies beside them (its own program writes that and cannot read it) the
// optimizer's moments, the schedule and the temperature go on from there too. The order of the data
// is not in it, so that is this program's own.
#include <filesystem>
#include <memory>
#include <optional>

#include "checkpoints/c2c_import.h"
#include "checkpoints/load_projector.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/sha256.h"
#include "trainers/c2c/c2c_policy.h"
#include "trainers/c2c/fusion_objective.h"
#include "trainers/engine/gradient_stage.h"
#include "trainers/engine/train_run.h"
#include "trainers/engine/training_cost.h"

namespace kvlingua {

StageCost c2c_cost();

namespace {

namespace fs = std::filesystem;

bool is_c2c_folder(const fs::path& folder) {
  return fs::exists(folder / "projector_config.json") ||
         fs::exists(folder / "final" / "projector_config.json");
}

ModelIdentity identity_of(const ModelOptions& options, const OpenModel& m) {
  return {options.name, to_string(m.model.config().architecture), m.model.fingerprint(),
          m.tokenizer().fingerprint(), m.model.kv_shape()};
}

class C2cStage : public GradientStage {
 public:
  explicit C2cStage(TrainRun& run);
  PairIdentity pair() const override {
    return {identity_of(recipe().pair.source, source_), identity_of(recipe().pair.target, target_),
            alignment_};
  }
  // The corpus stands for the pairs: conversations are read each time.
  std::string data_sha256() const override { return corpus_sha256_; }
  std::string start_sha256() const override;
  std::vector<Line> data_lines() const override;
  StagePlan plan(const MachineNumbers& machine) const override;
  nlohmann::ordered_json plan_facts() const override;

 private:
  void prepare(const StageStart& start) override;
  Projector& projector() override { return *projector_; }
  Objective& objective() override { return *objective_; }
  TrainerOptions trainer_options() override;
  void adopt(Trainer& trainer, TrainState& state) override;

  void make_projector();
  FusionCorpus corpus() const;
  void make_objective(FusionCorpus corpus);
  PlanInputs plan_inputs(const MachineNumbers& machine) const;
  bool recomputed() const;  // layers and towers in backward
  void start_elsewhere();   // from a C2C folder or another run's checkpoint
  const Recipe& recipe() const { return run_.recipe(); }
  const C2cTrainOptions& options() const { return recipe().train.c2c; }

  OpenModel source_, target_;
  std::string alignment_, corpus_sha256_;
  int64_t conversations_ = 0, left_out_ = 0, tokens_ = 0, total_steps_ = 0;
  std::unique_ptr<C2CProjector> projector_;
  std::unique_ptr<FusionObjective> objective_;
  std::optional<C2CTrainingState> adopted_;
};

C2cStage::C2cStage(TrainRun& run)
    : GradientStage(run, kC2cStage),
      source_(open_model(run.recipe().pair.source, run.device())),
      target_(open_model(run.recipe().pair.target, run.device())) {
  Sha256 files;
  for (const std::string& file : recipe().data.files) files.update(sha256_file(resolve_path(file)));
  corpus_sha256_ = files.hex();
  FusionCorpus conversations = corpus();
  make_projector();
  make_objective(std::move(conversations));
}

FusionCorpus C2cStage::corpus() const {
  const PairOptions& pair = recipe().pair;
  const TextReader target =
      TextReader::of(target_.tokenizer(), pair.target, target_.model.config());
  ModelOptions reads = pair.source;
  if (pair.alignment == "identity") reads.chat = to_string(*target.family);  // its tokens, its chat
  const TextReader source = TextReader::of(source_.tokenizer(), reads, source_.model.config());
  FusionCorpus corpus =
      make_fusion_corpus(recipe(), target, source, source_.model.config().vocab_size, run_.seed());
  Random(mix(run_.seed(), hash_name("fusion split"))).shuffle(corpus.items);
  return corpus;
}

void C2cStage::make_projector() {
  const ProjectorOptions& asked = recipe().projector;
  if (asked.kind != "c2c" || asked.c2c.mode != "fuse") {
    throw Error({.code = ExitCode::kUsage,
                 .where = cat("train.stages: ", name()),
                 .what = "trains Cache-to-Cache's projector in fuse mode",
                 .got = cat("projector.kind ", asked.kind, ", projector.c2c.mode ", asked.c2c.mode),
                 .expected = "projector.kind c2c, projector.c2c.mode fuse",
                 .remedy = cat("for translate mode use stage ", kDistillationStage)});
  }
  projector_ = std::make_unique<C2CProjector>(source_.model.kv_shape(), target_.model.kv_shape(),
                                              asked.c2c, mix(run_.seed(), hash_name("weights")));
  // On a GPU the towers compute in the target's type, as Cache-to-Cache does; the optimizer keeps
  // float32 masters of half weights.
  at::ScalarType dtype = resolve_dtype(asked.dtype, run_.device());
  if (run_.device().is_cuda() && dtype == at::kFloat) dtype = target_.model.dtype();
  if (options().low_precision_weights) dtype = at::kBFloat16;
  projector_->to(run_.device(), dtype);
}

void C2cStage::make_objective(FusionCorpus corpus) {
  const BatchOptions& batch = options().batch;
  const RunContext& context = run_.context();
  conversations_ = static_cast<int64_t>(corpus.items.size());
  left_out_ = corpus.left_out;
  alignment_ = corpus.alignment;
  for (const FusionItem& item : corpus.items) tokens_ += item.tokens();
  FusionObjectiveOptions how{.train = options(), .seed = run_.seed()};
  how.train.checkpoint_activations = recomputed() ? "true" : "false";
  how.order = recipe().projector.c2c.fusion == "parallel" ? FusionOrder::kParallel
                                                          : FusionOrder::kSequential;
  how.rank = context.world.rank;
  how.world = context.world.size;
  how.cache_file = context.paths.run /
                   (how.rank == 0 ? std::string(".source-cache") : cat(".source-cache-", how.rank));
  const auto all = static_cast<double>(conversations_);
  const double read = batch.steps > 0 ? static_cast<double>(batch.steps) *
                                            static_cast<double>(batch.size * batch.accumulation)
                                      : batch.epochs * all;
  how.several_epochs = read > all;
  objective_ = std::make_unique<FusionObjective>(*projector_, source_.model, target_.model,
                                                 std::move(corpus.items), how);
  total_steps_ = objective_->steps(batch);
}

std::string C2cStage::start_sha256() const {
  if (const std::string folder = run_.start_folder(name()); !folder.empty())
    return projector_sha256(folder);
  if (recipe().train.start_from.empty()) return {};
  const fs::path theirs = follow_link(resolve_path(recipe().train.start_from)) / "projector_0.pt";
  return fs::exists(theirs) ? sha256_file(theirs) : std::string();
}

void C2cStage::prepare(const StageStart& start) {
  if (start.resumed) {
    projector_->load_state(by_name(start.checkpoint->projector), start.where);
  } else if (!recipe().train.start_from.empty()) {
    start_elsewhere();
  }
}

void C2cStage::start_elsewhere() {
  const fs::path folder = resolve_path(recipe().train.start_from);
  const auto remark = [&](const std::string& text) {
    run_.folder().remark(cat(name(), ": ", text));
  };
  if (!is_c2c_folder(folder)) {
    const LoadedProjector other = load_projector(folder);
    projector_->load_state(by_name(other.projector->state()), other.path.string());
    remark(cat("starts from ", other.path.string()));
    return;
  }
  const C2CProjector theirs(
      read_c2c_directory(folder, C2CShapes{source_.model.kv_shape(), target_.model.kv_shape()}),
      "fuse");
  projector_->load_state(by_name(theirs.state()), folder.string());
  const fs::path state = folder / "training_state.pt";
  if (!fs::exists(state)) {
    remark(cat("starts from the weights of ", folder.string(), "; no training_state.pt"));
    return;
  }
  adopted_ = read_c2c_training_state(state, theirs.fuser());
  remark(cat("goes on from step ", adopted_->step, " of ", folder.string(),
             " with its optimizer state; the order of the data is this program's own"));
}

void C2cStage::adopt(Trainer& trainer, TrainState& state) {
  if (!adopted_) return;
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> moments;
  const auto& parameters = projector_->fuser().parameters();
  for (size_t i = 0; i < parameters.size(); ++i)
    moments[parameters[i].first] = adopted_->moments[i];
  trainer.adopt_moments(moments, adopted_->step);
  objective_->seek(adopted_->step, options().batch.accumulation);
  state.step = state.global_step = adopted_->step;
}

TrainerOptions C2cStage::trainer_options() {
  TrainerOptions to{.optimizer = options().optimizer};
  to.policy = c2c_policy(options().low_precision_weights);
  to.scale_loss = target_.model.dtype() == at::kHalf;
  to.accumulation = options().batch.accumulation;
  to.total_steps = total_steps_;
  to.validate_every = options().validate_every;
  return to;
}

std::vector<Stage::Line> C2cStage::data_lines() const {
  const int64_t kept = objective_->sources().bytes();
  return {{"data", cat(conversations_, " conversations (", left_out_, " left out), ",
                       objective_->train_items(), " train, alignment ", alignment_)},
          {"source cache", kept > 0 ? bytes_text(static_cast<double>(kept)) + " kept"
                                    : std::string("read for every batch")}};
}

bool C2cStage::recomputed() const {
  MachineNumbers machine;
  set_memory(machine, run_.device());
  return c2c_cost().plan(plan_inputs(machine)).recomputed;
}

PlanInputs C2cStage::plan_inputs(const MachineNumbers& machine) const {
  const auto numbers = [&](const OpenModel& m) {
    return numbers_of(m.model.config(), m.files.options,
                      static_cast<int64_t>(c10::elementSize(m.model.dtype())));
  };
  const CorpusNumbers corpus{conversations_,
                             static_cast<double>(tokens_) / static_cast<double>(conversations_)};
  return {recipe(), numbers(source_), numbers(target_), corpus, machine};
}

// Windows end with an epoch, so steps are known only here.
StagePlan C2cStage::plan(const MachineNumbers& machine) const {
  StagePlan plan = c2c_cost().plan(plan_inputs(machine));
  plan.products *= static_cast<double>(total_steps_) / static_cast<double>(plan.steps);
  plan.steps = total_steps_;
  return plan;
}

nlohmann::ordered_json C2cStage::plan_facts() const {
  return {{"conversations", conversations_}, {"left_out", left_out_}, {"alignment", alignment_}};
}

// ---- what it costs ----

StagePlan plan_of(const PlanInputs& in) {
  const C2cTrainOptions& o = in.recipe.train.c2c;
  StagePlan plan =
      frozen_plan(in, o.checkpoint_activations,
                  {.stage = kC2cStage,
                   .batch = o.batch,
                   .optimizer = o.optimizer,
                   .length = std::min(in.length(), static_cast<double>(o.max_length))});
  plan.unit = "conversations";
  const double micro = static_cast<double>(in.corpus.samples) / static_cast<double>(o.batch.size);
  add_training(plan, in, o.batch, steps_of(o.batch, micro), true);
  return plan;
}

}  // namespace

StageCost c2c_cost() {
  return {.plan = plan_of,
          .units = [](const PlanInputs&) { return PhaseUnits{}; },
          .why_whole = "Cache-to-Cache's training"};
}

std::unique_ptr<Stage> make_c2c_stage(TrainRun& run) {
  const int64_t accumulation = run.recipe().train.c2c.batch.accumulation,
                world = run.context().world.size;
  if (accumulation % world != 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train.c2c.batch.accumulation",
                 .what = "the micro-batches of a step cannot be dealt to the processes",
                 .got = cat(accumulation, " micro-batches, ", world, " processes"),
                 .expected = "a multiple of their number",
                 .remedy = cat("--set train.c2c.batch.accumulation=",
                               (accumulation + world - 1) / world * world)});
  }
  return std::make_unique<C2cStage>(run);
}

}  // namespace kvlingua
