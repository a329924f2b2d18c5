#include "eval/evaluate.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "eval/benchmarks/benchmark.h"
#include "eval/evaluation.h"
#include "eval/judging/confirmation.h"
#include "eval/judging/judged_checkpoints.h"
#include "eval/report/faces.h"
#include "eval/report/summary.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/bridge/reader.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/cache/process_group.h"
#include "kvlingua/model/weight_plan.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Whether both roles are the same weights, so that they need be opened once alone.
bool is_one_model(const PairOptions& pair) {
  const auto what = [](const ModelOptions& m) {
    return std::tie(m.name, m.revision, m.dtype, m.weights, m.double_quantization,
                    m.layer_streaming);
  };
  return what(pair.source) == what(pair.target);
}

FamilyStyle style_of(const Recipe& recipe) {
  if (recipe.eval.style == "nano") return FamilyStyle::kNano;
  if (recipe.eval.style == "english") return FamilyStyle::kEnglish;
  return recipe.data.kind == "synthetic" && recipe.data.synthetic.style == "nano"
             ? FamilyStyle::kNano
             : FamilyStyle::kEnglish;
}

// Both models as they read.
struct OpenPair {
  bool one_model;
  OpenModel source;
  std::optional<OpenModel> second;  // none where the source is the target too
  Reader source_reader, target_reader;

  OpenPair(const PairOptions& pair, at::Device device)
      : one_model(is_one_model(pair)), source(open_model(pair.source, device)) {
    if (!one_model) second = open_model(pair.target, device);
    source_reader = reader_of(source);
    target_reader = reader_of(target(), pair.target);
  }
  OpenPair(const OpenPair&) = delete;  // the readers point into it

  const OpenModel& target() const { return second ? *second : source; }

  // Threads that may read at once.
  int64_t workers(const RunContext& context) const {
    const bool streams = source.model.streams_layers() || target().model.streams_layers();
    return context.device == "cpu" && !streams ? context.workers : 1;
  }
  // Of models, tokenizers and chat settings: all of them that an answer depends on.
  std::string fingerprint(const PairOptions& pair, const std::string& projectors) const {
    return cat(source.model.fingerprint(), target().model.fingerprint(),
               source.tokenizer().fingerprint(), target().tokenizer().fingerprint(),
               at::toString(target().model.dtype()), projectors, pair.source.system,
               pair.target.system, pair.source.chat, pair.source.thinking, pair.target.chat,
               pair.target.thinking);
  }
  PairNames names(const PairOptions& pair, const std::string& device) const {
    return {.source = pair.source.name,
            .target = pair.target.name,
            .alignment = pair.alignment,
            .source_fingerprint = source.model.fingerprint(),
            .target_fingerprint = target().model.fingerprint(),
            .dtype = at::toString(target().model.dtype()),
            .device = device};
  }
};

// While it lives and several workers read and decode, each matrix product runs on one thread.
class OneThreadEach {
 public:
  explicit OneThreadEach(const RunContext& context) {
    if (context.workers > 1) at::set_num_threads(1);
  }
  ~OneThreadEach() { at::set_num_threads(before_); }
  OneThreadEach(const OneThreadEach&) = delete;

 private:
  int before_ = at::get_num_threads();
};

// The target with its weights dense, loaded when it is asked for: files that hold floats, of a
// target that holds codes.
class OpenTwin {
 public:
  // `files`: of the open target, which `target` are the options of.
  OpenTwin(const ModelOptions& target, const ModelFiles& files) : options_(target), files_(files) {
    options_.weights = "dense";
  }
  // Nothing: there is no other way to hold it.
  std::optional<DenseTwin> twin() {
    const HeldWeights now = held(files_.load.weights);
    if (now.format == WeightFormat::kDense || files_.config.stored != WeightFormat::kDense)
      return std::nullopt;
    return DenseTwin{now.name, [this](std::string& why_not) { return open(why_not); }};
  }

 private:
  HeldWeights held(const WeightOptions& weights) const {
    const auto size = static_cast<int64_t>(c10::elementSize(files_.load.dtype));
    return held_weights(files_.config, weights, size, "dense");
  }
  const Reader* open(std::string& why_not) {
    const auto wanted = static_cast<double>(held({.format = WeightFormat::kDense}).bytes),
               room = 0.9 * static_cast<double>(free_memory_bytes(files_.load.device));
    if (wanted > room) {
      why_not = cat("its dense weights take ", bytes_text(wanted), ", ", bytes_text(room),
                    " are free beside the pair");
      return nullptr;
    }
    model_ = open_model(options_, files_.load.device);
    return &reader_.emplace(reader_of(*model_, options_));
  }

  ModelOptions options_;
  const ModelFiles& files_;
  std::optional<OpenModel> model_;
  std::optional<Reader> reader_;
};

// A confirmation as it is planned before the first answer; changes `options` to what it judges. Of
// several processes the first plans, and the others go on with what it has written down: its seed
// is drawn, so two that plan would ask other items.
std::optional<Confirmation> planned(const CheckpointSearch& search, const std::string& judged,
                                    const Looks& looks, EvalOptions& options,
                                    JudgedCheckpoints& checkpoints) {
  const RunContext& context = search.context;
  if (!context.confirm) return std::nullopt;
  std::unique_ptr<ProcessGroup> others;
  if (!context.world.alone() && !context.dry_run)
    others = ProcessGroup::join({.world = context.world, .folder = context.paths.run});
  if (others && !context.world.is_main()) others->wait();
  auto plan = plan_confirmation(context,
                                {.replicas = checkpoints.replicas,
                                 .checkpoint = judged,
                                 .projectors = checkpoints.judged_hashes(options.gated),
                                 .trained = 1 + static_cast<int64_t>(checkpoints.replicas.size()) +
                                            checkpoints.seeds_of_same_weights},
                                looks, options, checkpoints.findings);
  if (others && context.world.is_main()) others->wait();
  return plan;
}

fs::path folder_of(const RunContext& context, const std::optional<Confirmation>& confirmation) {
  if (!context.compare.empty()) return context.paths.eval() / "compare";
  return confirmation ? confirmation->folder : context.paths.eval();
}

std::vector<Probe> probes_of(const Recipe& recipe, const RunContext& context,
                             const EvalOptions& options, StageMeter& meter,
                             JudgedCheckpoints& checkpoints) {
  auto making = meter.time("probes");
  std::vector<Probe> probes = make_probes(options, options.seeds, style_of(recipe), context.limit);
  leave_out_trained(checkpoints.recipes_that_trained(recipe), probes, checkpoints.findings);
  making.stop(static_cast<double>(probes.size()));
  return probes;
}

EvaluationInput input_of(const Recipe& recipe, const RunContext& context, const OpenPair& pair,
                         const EvalOptions& options, const JudgedCheckpoints& checkpoints,
                         std::vector<Probe> probes, StageMeter& meter) {
  const TrainingRecord* made = checkpoints.record(options.gated);
  const bool told = made != nullptr && made->said.settings;
  return {.source = pair.source_reader,
          .target = pair.target_reader,
          .alignment = alignment_kind_from_name(recipe.pair.alignment),
          .options = options,
          .projectors = checkpoints.named,
          .probes = std::move(probes),
          .seed = static_cast<uint64_t>(options.seeds.front()),
          .resume = context.resume && !context.restart,
          .world = context.world,
          .workers = pair.workers(context),
          .limit = context.limit,
          .fingerprint = pair.fingerprint(recipe.pair, checkpoints.hashes),
          .findings = checkpoints.findings,
          .replicas = checkpoints.replicas,
          .trained_families = told ? made->said.settings->families : std::vector<std::string>{},
          .confirm = context.confirm,
          .meter = &meter};
}

// Where the judged projectors come from, and what was asked of them beside the judgement.
void complete(const Recipe& recipe, const RunContext& context, const OpenPair& pair,
              const JudgedCheckpoints& checkpoints, const EvaluationInput& input,
              const Answers& answers, Report& report) {
  const EvalOptions& options = input.options;
  report.pair = pair.names(recipe.pair, context.device);
  const auto gated = checkpoints.named.find(options.gated);
  if (gated != checkpoints.named.end()) report.checkpoint = gated->second.checkpoint;
  for (const TrainingRecord& one : checkpoints.trained) report.trained.push_back(one.said);
  report.one_model = pair.one_model;
  for (const auto& benchmark : options.benchmarks)
    report.benchmarks.push_back(run_benchmark(benchmark, input));
  if (!context.compare.empty())
    report.comparison = {context.compare[0], context.compare[1],
                         paired_differences(answers, "A", "B", options.criteria.confidence)};
  report.versions = {{"kvlingua", KVLINGUA_VERSION}, {"torch", TORCH_VERSION}};
  report.recipe_sha256 = recipe.recipe_sha256();
}

}  // namespace

Json EvaluationPlan::to_json() const {
  return {{"items", items},
          {"conditions", conditions},
          {"answers", items * static_cast<int64_t>(conditions.size())},
          {"folder", folder.string()}};
}

Json EvaluateResult::to_json() const {
  return plan ? plan->to_json() : report ? report->to_json() : Json();
}

EvaluateResult evaluate(const Recipe& recipe, const RunContext& context) {
  const OneThreadEach workers(context);
  const ProfileRange range("evaluate");
  EvalOptions options = recipe.eval;
  if (context.seed) options.seeds = {*context.seed};
  const at::Device device = resolve_device(context.device, context.world.local_rank);
  StageMeter meter(device);
  auto loading = meter.time("load");
  const OpenPair pair(recipe.pair, device);
  const CheckpointSearch search{recipe, context, pair.source.model, pair.target().model};
  JudgedCheckpoints checkpoints = judged_checkpoints(search, options);
  if (context.confirm) load_replicas(search, options, checkpoints);
  const std::string judged = checkpoints.judged_hash(options.gated);
  Looks looks = looks_at(checkpoints.named, options.gated, context.paths.run);
  const auto confirmation = planned(search, judged, looks, options, checkpoints);
  loading.stop();

  std::vector<Probe> probes = probes_of(recipe, context, options, meter, checkpoints);
  EvaluationInput input =
      input_of(recipe, context, pair, options, checkpoints, std::move(probes), meter);
  OpenTwin twin(recipe.pair.target, pair.target().files);
  if (options.dense_twin) input.twin = twin.twin();
  input.folder = folder_of(context, confirmation);
  if (context.dry_run)
    return {.plan = EvaluationPlan{static_cast<int64_t>(input.probes.size()), options.conditions,
                                   input.folder}};

  Evaluation evaluation = run_evaluation(input);
  if (!evaluation.joined) return {};  // the first process judges
  Report& report = evaluation.report;
  const bool comparing = !context.compare.empty();
  if (evaluation.judged && !comparing)
    report.looks = take_look(looks, judged, options, confirmation, report);
  report.confirmation = confirmation;
  complete(recipe, context, pair, checkpoints, input, evaluation.answers, report);
  report.run.meter = meter.to_json();
  write_report(report, input.folder);
  if (confirmation) finish(*confirmation);
  log_info(cat("report: ", (input.folder / "report.html").string()));
  // A gate that was named and could not be judged is not met.
  return {.report = std::move(report),
          .folder = input.folder,
          .judged = (evaluation.judged || evaluation.gate_missing) && !comparing,
          .gate_met = evaluation.gate_met};
}

}  // namespace kvlingua
