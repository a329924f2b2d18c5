#include "eval/evaluate.h"

#include <torch/version.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "checkpoints/load_projector.h"
#include "datasets/corpus/corpus.h"
#include "eval/benchmarks/benchmark.h"
#include "eval/evaluation.h"
#include "eval/report/report.h"
#include "eval/summary.h"
#include "kvlingua/base/log.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/io/hub.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/identity.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Side {
  fs::path directory;
  std::shared_ptr<CausalLM> model;
  std::shared_ptr<Tokenizer> tokenizer;
};

Side load_side(const ModelOptions& options, at::Device device) {
  Side side;
  const std::string name = resolve_path(options.name);
  side.directory = resolve_model(
      options.revision == "main" || fs::exists(name) ? name : name + "@" + options.revision);
  side.model = std::make_shared<CausalLM>(CausalLM::load(
      side.directory, {.device = device,
                       .dtype = resolve_dtype(options.dtype, device),
                       .layer_streaming = options.layer_streaming,
                       .weights = weight_options(options.weights, options.double_quantization)}));
  side.tokenizer = std::make_shared<Tokenizer>(Tokenizer::from_directory(side.directory));
  return side;
}

Reader reader_of(const Side& side, const ModelOptions& options) {
  ChatFamily family;
  if (options.chat == "auto") {
    family = recognise_chat_family(*side.tokenizer);
  } else if (const auto named = chat_family_from_name(options.chat)) {
    family = *named;
  } else {
    throw Error({.code = ExitCode::kUsage,
                 .where = "pair: chat",
                 .what = "unknown chat family",
                 .got = options.chat});
  }
  ChatOptions chat;
  chat.enable_thinking = options.thinking;
  return Reader::make(*side.model, *side.tokenizer, chat_frame(family, options.system, chat));
}

// Which stage of training makes which condition.
const std::vector<std::pair<std::string, std::string>>& stages_of_conditions() {
  static const std::vector<std::pair<std::string, std::string>> table = {
      {"ridge", "ridge"}, {"mlp", "regression"}, {"distilled", "distillation"}, {"fused", "c2c"}};
  return table;
}

bool wants(const EvalOptions& options, const std::string& name) {
  return std::find(options.conditions.begin(), options.conditions.end(), name) !=
         options.conditions.end();
}

// The projectors of a run, loaded, and what was said while looking for them.
struct Checkpoints {
  std::map<std::string, NamedProjector> named;
  std::vector<std::unique_ptr<Projector>> owned;
  std::vector<Finding> findings;
  std::string hashes;  // of every projector's tensors

  void add(const std::string& condition, std::unique_ptr<Projector> projector,
           const std::string& where) {
    Sha256 hash;
    for (const auto& [name, tensor] : projector->state()) {
      const at::Tensor bytes = tensor.to(at::kCPU).contiguous();
      hash.update(name);
      hash.update(bytes.const_data_ptr(), bytes.numel() * bytes.element_size());
    }
    hashes += condition + ":" + hash.hex() + ";";
    named[condition] = {projector.get(), where};
    owned.push_back(std::move(projector));
  }

  // Whether there was one. Throws Error: kCorrupt when damaged, kInput when it is of another pair.
  bool load(const std::string& condition, const fs::path& path, const std::string& stage,
            const Side& source, const Side& target) {
    std::optional<LoadedProjector> loaded;
    try {
      loaded.emplace(load_projector(path, target.model->device(), at::kFloat, stage));
    } catch (const Error& error) {
      if (error.code() != ExitCode::kInput) throw;
      findings.push_back({"no_checkpoint", cat(condition, ": ", error.what()), false});
      return false;
    }
    loaded->check_models(*source.model, *target.model);
    for (const auto& skipped : loaded->skipped)
      findings.push_back({"damaged_checkpoint", skipped, false});
    add(condition, std::move(loaded->projector), loaded->path.string());
    return true;
  }
};

[[noreturn]] void refuse_missing(const std::string& named, const std::vector<Finding>& findings) {
  throw Error({.code = ExitCode::kInput,
               .where = named,
               .what = "no checkpoint here",
               .got = findings.empty() ? "nothing" : findings.back().text,
               .remedy = "name a checkpoint's folder or a run's"});
}

// A condition without a checkpoint is left out and said; the last stage there is becomes the gated
// one when it is that.
Checkpoints load_checkpoints(const RunContext& context, const Side& source, const Side& target,
                             EvalOptions& options) {
  Checkpoints result;
  if (!context.checkpoint.empty()) {
    // One checkpoint: the judged condition is this one, other stages are not looked for.
    for (const auto& [condition, stage] : stages_of_conditions())
      if (condition != options.gated) std::erase(options.conditions, condition);
    std::erase(options.conditions, "ridge_aligned");
    if (!result.load(options.gated, resolve_path(context.checkpoint), {}, source, target))
      refuse_missing(context.checkpoint, result.findings);
    if (!wants(options, options.gated)) options.conditions.push_back(options.gated);
    return result;
  }
  if (wants(options, "identity"))
    result.add(
        "identity",
        std::make_unique<IdentityProjector>(source.model->kv_shape(), target.model->kv_shape()),
        {});
  auto table = stages_of_conditions();
  table.insert(table.begin(), {"ridge_aligned", "ridge_aligned"});
  std::string last;
  for (const auto& [condition, stage] : table) {
    if (!wants(options, condition)) continue;
    if (result.load(condition, context.paths.run, stage, source, target))
      last = condition;
    else
      std::erase(options.conditions, condition);
  }
  const bool projected = std::any_of(table.begin(), table.end(),
                                     [&](const auto& row) { return row.first == options.gated; });
  if (projected && !result.named.contains(options.gated)) {
    if (last.empty())
      throw Error({.code = ExitCode::kInput,
                   .where = context.paths.run.string(),
                   .what = "no checkpoint to evaluate",
                   .got = "none of a stage that eval.conditions names",
                   .expected = cat("one for ", options.gated),
                   .remedy = "run kvlingua train first, or give --checkpoint DIR"});
    result.findings.push_back(
        {"gate_moved", cat(options.gated, " has no checkpoint: ", last, " is judged in its place"),
         false});
    options.gated = last;
  }
  return result;
}

Checkpoints load_compared(const RunContext& context, const Side& source, const Side& target,
                          EvalOptions& options) {
  if (context.compare.size() != 2)
    throw Error({.code = ExitCode::kUsage,
                 .where = "--compare",
                 .what = "two checkpoints are needed",
                 .got = cat(context.compare.size())});
  Checkpoints result;
  for (const auto& [name, path] : {std::pair{"A", context.compare[0]}, {"B", context.compare[1]}})
    if (!result.load(name, resolve_path(path), {}, source, target))
      refuse_missing(path, result.findings);
  for (const char* name : {"ridge_aligned", "ridge", "mlp", "distilled", "fused", "identity"})
    std::erase(options.conditions, name);
  options.conditions.insert(options.conditions.end(), {"A", "B"});
  options.gated = "A";
  return result;
}

// Items that training has seen: own probe files are refused, built-in items are left out and
// counted.
void leave_out_trained(const Recipe& recipe, std::vector<Probe>& probes,
                       std::vector<Finding>& findings) {
  std::unique_ptr<Corpus> corpus;
  try {
    corpus = open_corpus(recipe.data);
  } catch (const Error& error) {
    findings.push_back(
        {"training_not_checked",
         cat("the training corpus is not here, overlap with it was not looked for: ", error.what()),
         false});
    return;
  }
  int64_t next = 0;
  const int64_t size = recipe.data.max_samples > 0
                           ? std::min(corpus->size(), recipe.data.max_samples)
                           : corpus->size();
  const auto found = overlaps(probes, [&](std::string& text) {
    while (next < size) {
      try {
        text = corpus->read(next++).text;
        return true;
      } catch (const Error&) {
        // A malformed record trained nothing.
      }
    }
    return false;
  });
  if (found.empty()) return;
  const auto& builtin = family_names();
  std::vector<bool> out(probes.size(), false);
  for (const Overlap& overlap : found) {
    const Probe& probe = probes[overlap.probe];
    if (std::find(builtin.begin(), builtin.end(), probe.family) == builtin.end())
      throw Error(
          {.code = ExitCode::kInput,
           .where = cat("probe ", printable(probe.id)),
           .what = "shared with training",
           .got = cat("its ", overlap.what, overlap.what == "context" ? " stands" : " stand",
                      " in training document ", overlap.document, "; ", found.size(),
                      " probes in all"),
           .expected = "values that training never saw",
           .remedy = "take these probes out of their file, or the documents out of the corpus"});
    out[overlap.probe] = true;
  }
  std::vector<Probe> kept;
  for (size_t i = 0; i < probes.size(); ++i)
    if (!out[i]) kept.push_back(std::move(probes[i]));
  findings.push_back(
      {"shared_with_training",
       cat(probes.size() - kept.size(), " items stand in the training corpus: left out"), false});
  probes = std::move(kept);
}

FamilyStyle style_of(const Recipe& recipe) {
  if (recipe.eval.style == "nano") return FamilyStyle::kNano;
  if (recipe.eval.style == "english") return FamilyStyle::kEnglish;
  return recipe.data.kind == "synthetic" && recipe.data.synthetic.style == "nano"
             ? FamilyStyle::kNano
             : FamilyStyle::kEnglish;
}

}  // namespace

EvaluateResult evaluate(const Recipe& recipe, const RunContext& context) {
  EvaluateResult result;
  EvalOptions options = recipe.eval;
  if (context.seed) options.seeds = {*context.seed};
  const at::Device device = resolve_device(context.device, context.world.local_rank);
  StageMeter meter(device);
  auto loading = meter.time("load");
  const Side source = load_side(recipe.pair.source, device);
  const bool one_model = recipe.pair.source.name == recipe.pair.target.name &&
                         recipe.pair.source.dtype == recipe.pair.target.dtype;
  const Side target = one_model ? source : load_side(recipe.pair.target, device);
  const Reader source_reader = reader_of(source, recipe.pair.source),
               target_reader = reader_of(target, recipe.pair.target);

  const bool comparing = !context.compare.empty();
  Checkpoints checkpoints = comparing ? load_compared(context, source, target, options)
                                      : load_checkpoints(context, source, target, options);
  loading.stop();
  auto making = meter.time("probes");
  std::vector<Probe> probes = make_probes(options, options.seeds, style_of(recipe), context.limit);
  leave_out_trained(recipe, probes, checkpoints.findings);
  making.stop(static_cast<double>(probes.size()));

  EvaluationInput input{
      .source = source_reader,
      .target = target_reader,
      .alignment = alignment_kind_from_name(recipe.pair.alignment),
      .options = options,
      .projectors = checkpoints.named,
      .probes = std::move(probes),
      .seed = static_cast<uint64_t>(options.seeds.front()),
      .folder = comparing ? context.paths.eval() / "compare" : context.paths.eval(),
      .resume = context.resume && !context.restart,
      .world = context.world,
      .limit = context.limit,
      .fingerprint = cat(source.model->fingerprint(), target.model->fingerprint(),
                         source.tokenizer->fingerprint(), target.tokenizer->fingerprint(),
                         at::toString(target.model->dtype()), checkpoints.hashes,
                         recipe.pair.source.system, recipe.pair.target.system),
      .findings = checkpoints.findings,
      .meter = &meter};
  if (context.dry_run) {
    result.report = {{"items", input.probes.size()},
                     {"conditions", options.conditions},
                     {"answers", input.probes.size() * options.conditions.size()},
                     {"folder", input.folder.string()}};
    return result;
  }

  Evaluation evaluation = run_evaluation(input);
  if (!evaluation.joined) return result;  // the first process judges
  Json report;
  report["pair"] = {{"source", recipe.pair.source.name},
                    {"target", recipe.pair.target.name},
                    {"alignment", recipe.pair.alignment},
                    {"source_fingerprint", source.model->fingerprint()},
                    {"target_fingerprint", target.model->fingerprint()},
                    {"dtype", at::toString(target.model->dtype())},
                    {"device", context.device}};
  const auto gated = checkpoints.named.find(options.gated);
  report["checkpoint"] = gated == checkpoints.named.end() ? Json() : Json(gated->second.checkpoint);
  for (auto& [key, value] : evaluation.report.items()) report[key] = std::move(value);
  report["benchmarks"] = Json::array();
  for (const auto& benchmark : options.benchmarks)
    report["benchmarks"].push_back(run_benchmark(benchmark, input));
  report["comparison"] = Json();
  if (comparing) {
    report["comparison"] = {{"a", context.compare[0]},
                            {"b", context.compare[1]},
                            {"families", paired_differences(evaluation.answers, "A", "B",
                                                            options.criteria.confidence)}};
  }
  report["versions"] = {{"kvlingua", KVLINGUA_VERSION}, {"torch", TORCH_VERSION}};
  report["recipe_sha256"] = recipe.recipe_sha256();
  report["run"].update(meter.to_json());
  write_report(report, input.folder);
  log_info(cat("report: ", (input.folder / "report.html").string()));
  result.report = std::move(report);
  result.folder = input.folder;
  result.judged = evaluation.judged && !comparing;
  result.gate_met = evaluation.gate_met;
  return result;
}

}  // namespace kvlingua
