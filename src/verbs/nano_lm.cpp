// nano-lm: makes and scores the models of the embedded pair (trainers/nano_lm).
#include <filesystem>

#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/json.h"
#include "nano_lm.h"
#include "trainers/nano_lm/lm_trainer.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// The scores of a language model of the embedded pair; exit 3 when it falls short of what it must
// keep.
int validate_nano_lm(const CommandLine& command, const LmRun& run, int64_t limit) {
  LmValidationOptions options;
  if (limit > 0) options.items = limit;
  const std::vector<LmScore> scores = validate_language_model_at(run.out, run.device, options);
  const std::vector<std::string> missing = shortfalls(scores);
  if (command.json.empty()) {
    write_stdout(describe(scores) + "\n");
    for (const std::string& line : missing) write_stdout("falls short: " + line + "\n");
  } else {
    Json document = {{"model", run.out.string()}, {"pass", missing.empty()}};
    for (const LmScore& score : scores) {
      document["scores"][score.name] = {
          {"n", score.n}, {"exact", score.exact}, {"stalled", score.stalled}};
    }
    write_json(command.json, document);
  }
  return static_cast<int>(missing.empty() ? ExitCode::kOk : ExitCode::kGate);
}

}  // namespace

// A language model of the embedded pair, from scratch on the built-in corpus
// (checkpoints/nano/README.md).
int NanoLmVerb::run(const CommandLine& command) const {
  const std::filesystem::path file = resolve_path(command.arguments.at(0));
  LmOptions settings = LmOptions::from_yaml(read_text_file(file), file.string(), command.set);
  settings.train.seed = command.seed.value_or(settings.train.seed);
  const std::filesystem::path root =
      command.out.empty() ? project_root() : std::filesystem::path(command.out);
  LmRun run;
  run.out = root / settings.out;
  run.work = root / "checkpoints" / "nano_lm" / file.stem();
  run.device = resolve_device(command.device.empty() ? "auto" : command.device, 0);
  run.resume = !options.restart;
  if (validate) return validate_nano_lm(command, run, options.limit);
  if (options.dry_run) {
    write_stdout(cat(options_to_yaml(visit_of(settings)), "\nnano-lm: ", settings.train.steps,
                     " steps of ", settings.train.batch, " dialogues into ", run.out.string(),
                     "\n"));
    return 0;
  }
  run.should_stop = stop_requested;
  run.on_step = [&](const LmStepLine& line) { log_info(describe(line, settings.train.steps)); };
  run.on_validation = [](int64_t, const std::vector<LmScore>& scores) {
    log_info(describe(scores));
  };
  const LmResult result = train_language_model(settings, run);
  if (result.stopped)
    throw stopped_error(cat("saved after step ", result.steps, "; the same command goes on"));
  if (!command.json.empty()) {
    write_json(command.json, Json{{"model", run.out.string()},
                                  {"steps", result.steps},
                                  {"last_loss", result.last_loss}});
  }
  return 0;
}

}  // namespace kvlingua::verbs
