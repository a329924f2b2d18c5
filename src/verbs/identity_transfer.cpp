#include "identity_transfer.h"

#include <optional>

#include "checkpoints/load_projector.h"
#include "kvlingua/base/log.h"
#include "kvlingua/bridge/cache_bridge.h"
#include "kvlingua/config/stages.h"
#include "stages.h"

namespace kvlingua::verbs {

namespace {

// The judged stage's projector, else the newest there is; none where the run has no checkpoint.
std::optional<LoadedProjector> find_projector(const Recipe& recipe, const RunContext& context,
                                              std::string& why) {
  const StageFacts* judged = stage_of_condition(recipe.eval.gated);
  for (const std::string wanted : {judged != nullptr ? judged->name : "", ""}) {
    try {
      return load_projector(context.paths.run, at::Device(context.device), at::kFloat, wanted);
    } catch (const Error& error) {
      if (error.code() != ExitCode::kInput) throw;
      why = error.what();
    }
  }
  return std::nullopt;
}

Json judged(const TransferInput& input) {
  const TransferResult result = run_transfer(input);
  Json out = {{"failed", result.failed}};
  if (input.options.recognition)
    out["self_recognition"] = judge_recognition(result.recognised, input.design, input.options);
  if (input.projector != nullptr) {
    out["identity_transfer"] = judge_transfer(result.written, input.design, input.options);
    // What each text became, for a reader to look at.
    Json samples = Json::array();
    for (const auto& [condition, answers] : result.written)
      for (const WrittenAnswer& answer : answers)
        if (answer.wording == 0 && answer.prompt == 0)
          samples.push_back(
              {{"condition", condition},
               {"persona", input.design.personas[static_cast<size_t>(answer.label)].key},
               {"text", answer.text}});
    out["identity_transfer"]["samples"] = samples;
  }
  return out;
}

}  // namespace

Json recipe_transfer(const GeometryRun& run, const RunContext& context,
                     const IdentityDesign& design, const IdentityOptions& options,
                     const std::filesystem::path& file) {
  const Recipe& recipe = *run.recipe;
  std::string why;
  std::optional<LoadedProjector> loaded;
  if (options.transfer)
    loaded = find_projector(recipe, context, why);
  else
    why = "not asked for";
  if (loaded && loaded->projector->fuses()) {
    why = cat("a ", loaded->projector->kind(),
              " projector fuses: the target reads the persona's text itself");
    loaded.reset();
  }
  const at::Device device(context.device);
  const OpenModel target = open_model(recipe.pair.target, device);
  const Reader continues = reader_of(target);
  std::optional<OpenModel> source;
  if (loaded) {
    source.emplace(open_model(recipe.pair.source, device));
    loaded->check_models(source->model, target.model);
  }
  const Reader reads = source ? reader_of(*source) : continues;
  const SystemTexts texts = system_texts(design, target.tokenizer(), options.equal_length);
  Json out =
      judged({.source = reads,
              .target = continues,
              .projector = loaded ? loaded->projector.get() : nullptr,
              .alignment = loaded ? alignment_kind_from_name(recipe.pair.alignment)
                                  : AlignmentKind::kIdentity,
              .design = design,
              .texts = texts,
              .options = options,
              .file = file,
              .fingerprint = cat(reads.model->fingerprint(), continues.model->fingerprint(),
                                 at::toString(target.model.dtype()),
                                 loaded ? tensors_sha256(*loaded->projector) : "",
                                 recipe.pair.alignment, continues.frame.before, reads.frame.before),
              .resume = run.resume});
  if (loaded) {
    out["identity_transfer"]["checkpoint"] = loaded->path.string();
    out["identity_transfer"]["stage"] = loaded->stage;
    out["identity_transfer"]["kind"] = loaded->projector->kind();
  } else {
    out["identity_transfer"] = {{"verdict", "not measured"}, {"reason", why}};
  }
  return out;
}

Json model_recognition(const OpenedModel& opened, const IdentityDesign& design,
                       const IdentityOptions& options, const std::filesystem::path& file,
                       bool resume) {
  std::optional<Reader> reader;
  const std::string why = failure_of([&] {
    reader =
        Reader::make(opened.model, TextReader::of(opened.tokenizer, {}, opened.model.config()));
  });
  if (!reader) return {{"self_recognition", {{"reason", why}}}, {"failed", Json::array()}};
  const SystemTexts texts = system_texts(design, opened.tokenizer, options.equal_length);
  return judged({.source = *reader,
                 .target = *reader,
                 .alignment = AlignmentKind::kIdentity,
                 .design = design,
                 .texts = texts,
                 .options = options,
                 .file = file,
                 .fingerprint = cat(opened.model.fingerprint(), at::toString(opened.model.dtype()),
                                    reader->frame.before),
                 .resume = resume});
}

}  // namespace kvlingua::verbs
