// The only file that sees every stage: one small function per verb, from the command line to a
// stage and back to a result.
//
// Built as a shared library that the launcher loads when a verb needs torch. Results go to stdout,
// everything else to stderr; whatever is thrown becomes one line and an exit code.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <sstream>

#include "checkpoints/interchange.h"
#include "datasets/corpus.h"
#include "datasets/generate.h"
#include "datasets/verify.h"
#include "eval/evaluate.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/guard.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/command_line.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/io/hub.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/model/inspect.h"
#include "kvlingua/model/model_config.h"
#include "kvlingua/model/preflight.h"
#include "kvlingua/text/tokenizer.h"
#include "trainers/lm_trainer.h"
#include "trainers/train.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

Recipe load_recipe(const CommandLine& command) {
  const std::string named = command.arguments.empty() ? "recipe/nano.yaml" : command.arguments[0];
  Recipe recipe = Recipe::load(find_recipe(named), command.set);
  for (const std::string& note : recipe.notes) log_warning(note);
  return recipe;
}

// Small models lose more to waiting for threads than they gain: on a busy machine a barrier a
// product makes a step many times slower. OMP_NUM_THREADS wins.
void choose_threads(const Recipe& recipe) {
  constexpr int64_t kSmall = 20'000'000;
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;
  int64_t largest = 0;
  for (const std::string& name : {recipe.pair.source.name, recipe.pair.target.name}) {
    try {
      const std::filesystem::path model = resolve_model(name);
      largest = std::max(largest, ModelConfig::from_directory(model).parameter_count());
    } catch (const Error&) {
      return;  // the stage says what is wrong with it
    }
  }
  if (largest < kSmall) at::set_num_threads(1);
}

RunContext context_of(const CommandLine& command, const Recipe& recipe) {
  choose_threads(recipe);
  RunContext context;
  context.world = World::from_environment();
  context.device_asked = command.device.empty() ? recipe.pair.device : command.device;
  context.device = resolve_device(context.device_asked, context.world.local_rank).str();
  context.seed = command.seed;
  context.paths = run_paths(command.out, recipe.dataset_name(), recipe.run_name());
  context.verbosity = command.verbosity;
  context.restart = command.restart;
  context.resume = !command.restart;
  context.dry_run = command.dry_run;
  context.skip_bad = command.skip_bad;
  context.limit = command.limit;
  context.stage = command.stage;
  context.checkpoint = command.checkpoint;
  context.compare = command.compare;
  return context;
}

[[noreturn]] void not_in_this_version(const std::string& what) {
  throw Error({.where = what, .what = "not in this version"});
}

// How many samples generation will find, and how long they are: from at most 256 of them, evenly
// spread.
CorpusNumbers count_corpus(const Recipe& recipe, const std::filesystem::path& target) {
  const DataOptions& data = recipe.data;
  const std::unique_ptr<Corpus> corpus = open_corpus(data);
  std::optional<Tokenizer> tokenizer;
  if (!target.empty()) tokenizer = Tokenizer::from_directory(target);
  const int64_t size = corpus->size(), looked_at = std::min<int64_t>(size, 256);
  double tokens = 0;
  int64_t read = 0;
  for (int64_t i = 0; i < looked_at; ++i) {
    std::string text;
    try {
      text = corpus->read(i * (size / looked_at)).text;
    } catch (const Error&) {
      continue;  // generation says what is wrong with it
    }
    // About four bytes a token where there is no tokenizer yet.
    const double length = tokenizer ? static_cast<double>(tokenizer->encode(text, false).size())
                                    : static_cast<double>(text.size()) / 4;
    tokens += std::min(length, static_cast<double>(data.max_length));
    ++read;
  }
  CorpusNumbers numbers{.samples = size,
                        .tokens_per_sample = read > 0 ? tokens / static_cast<double>(read) : 0};
  if (data.max_samples > 0) numbers.samples = std::min(numbers.samples, data.max_samples);
  if (data.max_tokens > 0 && numbers.tokens_per_sample > 0) {
    numbers.samples = std::min(
        numbers.samples,
        static_cast<int64_t>(static_cast<double>(data.max_tokens) / numbers.tokens_per_sample) + 1);
  }
  return numbers;
}

void put_result(const CommandLine& command, const std::string& text, const Json& json) {
  if (!command.json_on_stdout()) write_stdout(text);
  if (!command.json.empty()) write_json(command.json, json);
}

Error cannot_run(const Preflight& preflight) {
  const bool models = !preflight.source.problem.empty() || !preflight.target.problem.empty();
  const ExitCode code = models                        ? ExitCode::kInput
                        : !preflight.plan.fits_memory ? ExitCode::kDevice
                        : !preflight.plan.fits_disk   ? ExitCode::kDiskFull
                                                      : ExitCode::kFailed;
  const size_t others = preflight.problems.size() - 1;
  return Error(
      {.code = code,
       .where = preflight.recipe.name,
       .what = "cannot run here",
       .remedy = preflight.problems.front() + (others > 0 ? cat(" (and ", others, " more)") : "")});
}

int run_preflight_verb(const CommandLine& command) {
  const Recipe recipe = load_recipe(command);
  const RunContext context = context_of(command, recipe);
  const Preflight preflight = run_preflight(recipe, context, count_corpus);
  put_result(command, to_text(preflight), to_json(preflight));
  if (!preflight.can_run()) throw cannot_run(preflight);
  return 0;
}

int run_inspect(const CommandLine& command) {
  InspectOptions options;
  options.name = command.arguments[0];
  options.directory = resolve_model(resolve_path(options.name));
  options.prompts = command.prompt;
  if (!command.prompts.empty()) {
    std::istringstream lines(read_text_file(command.prompts));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) options.prompts.push_back(line);
    }
  }
  options.load.device = resolve_device(command.device.empty() ? "auto" : command.device);
  options.load.dtype =
      resolve_dtype(command.dtype.empty() ? "auto" : command.dtype, options.load.device);
  options.dump = command.dump;
  options.determinism = command.determinism;
  options.bench = command.bench;
  if (command.limit > 0) options.bench_limit = command.limit;
  const Json report = inspect(options);
  if (!command.out.empty()) write_json(command.out, inspect_metadata(report));
  put_result(command, inspect_table(report), report);
  return static_cast<int>(inspect_repeats(report) ? ExitCode::kOk : ExitCode::kGate);
}

// The scores of a language model of the embedded pair; exit 3 when it falls short of what it must
// keep.
int validate_nano_lm(const CommandLine& command, const LmRun& run) {
  LmValidationOptions options;
  if (command.limit > 0) options.items = command.limit;
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

// A language model of the embedded pair, from scratch on the built-in corpus
// (checkpoints/nano/README.md).
int nano_lm(const CommandLine& command) {
  const std::filesystem::path file = resolve_path(command.arguments.at(0));
  LmOptions options = LmOptions::from_yaml(read_text_file(file), file.string(), command.set);
  options.train.seed = command.seed.value_or(options.train.seed);
  const std::filesystem::path root =
      command.out.empty() ? project_root() : std::filesystem::path(command.out);
  LmRun run;
  run.out = root / options.out;
  run.work = root / "checkpoints" / "nano_lm" / file.stem();
  run.device = resolve_device(command.device.empty() ? "auto" : command.device, 0);
  run.resume = !command.restart;
  if (!command.parts.empty()) return validate_nano_lm(command, run);
  run.should_stop = stop_requested;
  run.on_step = [&](const LmStepLine& line) { log_info(describe(line, options.train.steps)); };
  run.on_validation = [](int64_t, const std::vector<LmScore>& scores) {
    log_info(describe(scores));
  };
  const LmResult result = train_language_model(options, run);
  if (result.stopped)
    throw stopped_error(cat("saved after step ", result.steps, "; the same command goes on"));
  if (!command.json.empty()) {
    write_json(command.json, Json{{"model", run.out.string()},
                                  {"steps", result.steps},
                                  {"last_loss", result.last_loss}});
  }
  return 0;
}

// What a stage gives back: a few lines for people, its JSON, and whether its gate was met.
struct StageOutcome {
  std::string text;
  Json json;
  ExitCode code = ExitCode::kOk;
};

StageOutcome generate_stage(const Recipe& recipe, const RunContext& context) {
  const GenerateResult result = generate(recipe, context);
  return {
      cat(result.directory.string(), ": ", result.samples, " samples, ", result.tokens, " tokens, ",
          bytes_text(static_cast<double>(result.bytes)), " in ", result.shards, " shards\n"),
      result.to_json()};
}

StageOutcome train_stage(const Recipe& recipe,
                         const RunContext& context) {
  const TrainResult result = train(recipe, context);
  return {result.dry_run ? recipe.to_yaml() + "\n" + result.plan : result.summary(),
          result.to_json()};
}

StageOutcome evaluate_stage(const Recipe& recipe, const RunContext& context) {
  const EvaluateResult result = evaluate(recipe, context);
  std::string text;
  if (result.judged && result.report.contains("criteria")) {
    for (const auto& [name, criterion] : result.report["criteria"].items()) {
      text += cat(name, ": ", criterion.value("verdict", std::string("?")), "\n");
    }
  }
  if (!result.folder.empty())
    text += cat("report: ", (result.folder / "report.html").string(), "\n");
  return {text, result.to_json(), result.exit_code()};
}

using Stage = StageOutcome (*)(const Recipe&, const RunContext&);
int run_stage(const CommandLine& command, Stage stage) {
  const Recipe recipe = load_recipe(command);
  const StageOutcome outcome = stage(recipe, context_of(command, recipe));
  put_result(command, outcome.text, outcome.json);
  return static_cast<int>(outcome.code);
}
int run_generate(const CommandLine& command) { return run_stage(command, generate_stage); }
int run_train(const CommandLine& command) { return run_stage(command, train_stage); }
int run_evaluate(const CommandLine& command) { return run_stage(command, evaluate_stage); }

// A folder with a manifest that is no pair set: a checkpoint, or whatever else keeps one.
Json verify_manifest(const std::filesystem::path& folder) {
  Json problems = Json::array();
  const Manifest manifest = Manifest::load(folder / Manifest::kFileName);
  for (const ManifestDamage& damage : manifest.verify(folder)) {
    problems.push_back({{"file", damage.path}, {"what", damage.reason}});
  }
  return {{"kind", "files"},
          {"directory", folder.string()},
          {"files", manifest.entries().size()},
          {"problems", problems}};
}

int run_verify(const CommandLine& command) {
  Json results = Json::array();
  bool clean = true;
  for (const std::string& named : command.arguments) {
    const std::filesystem::path folder = resolve_path(named);
    const Json result =
        is_pair_set(folder) ? verify_pairs(folder).to_json() : verify_manifest(folder);
    for (const Json& problem : result["problems"]) {
      clean = false;
      std::string where = (folder / problem["file"].get<std::string>()).string();
      if (problem.contains("sample")) where += cat(": sample ", problem["sample"].get<int64_t>());
      if (!command.json_on_stdout()) {
        write_stdout(cat(where, ": ", problem["what"].get<std::string>(), "\n"));
      }
    }
    if (result["problems"].empty() && !command.json_on_stdout()) {
      write_stdout(cat(folder.string(), ": clean\n"));
    }
    results.push_back(result);
  }
  if (!command.json.empty()) write_json(command.json, results);
  return static_cast<int>(clean ? ExitCode::kOk : ExitCode::kCorrupt);
}

// Everything in one go. Each stage finds what it has done already and goes on from there.
int run_quickstart(const CommandLine& command) {
  for (const std::string& part : command.parts) {
    if (part == "sweep" || part == "identity") not_in_this_version(part);
  }
  const auto wanted = [&](std::string_view part) {
    return command.parts.empty() ||
           std::find(command.parts.begin(), command.parts.end(), part) != command.parts.end();
  };
  const Recipe recipe = load_recipe(command);
  RunContext context = context_of(command, recipe);
  context.limit = 0;  // --limit is for the evaluation: pairs and training are always whole
  const Preflight preflight = run_preflight(recipe, context, count_corpus);
  Json results = {{"preflight", to_json(preflight)}};
  ExitCode code = ExitCode::kOk;
  // The plan: on stdout when it is what was asked for, else before the work.
  if (!command.json_on_stdout()) write_stdout(to_text(preflight) + "\n");
  if (!preflight.can_run() || command.dry_run) {
    if (!command.json.empty()) write_json(command.json, results);
    if (!preflight.can_run()) throw cannot_run(preflight);
    return 0;
  }
  if (wanted("train")) {
    using NamedStage = std::pair<const char*, Stage>;
    for (const auto& [name, stage] :
         {NamedStage("generate", generate_stage), NamedStage("train", train_stage)}) {
      const StageOutcome outcome = stage(recipe, context);
      results[name] = outcome.json;
      if (!command.json_on_stdout()) write_stdout(outcome.text);
    }
  }
  if (wanted("validate")) {
    context.limit = command.limit;
    const StageOutcome outcome = evaluate_stage(recipe, context);
    results["evaluate"] = outcome.json;
    code = outcome.code;
    if (!command.json_on_stdout()) {
      write_stdout(outcome.text +
                   "next, on a machine with a GPU: scripts/phase2b_quickstart.sh --recipe "
                   "recipe/phase2b/qwen3-0.6b_qwen2.5-0.5b.yaml\n");
    }
  }
  if (!command.json.empty()) write_json(command.json, results);
  return static_cast<int>(code);
}

int run_import(const CommandLine& command) {
  const auto& [format, from, out] = std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  import_checkpoint(format, from, out);
  return 0;
}
int run_export(const CommandLine& command) {
  const auto& [format, from, out] = std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  export_checkpoint(format, from, out);
  return 0;
}

using VerbFunction = int (*)(const CommandLine&);
const std::map<std::string, VerbFunction>& verbs() {
  static const std::map<std::string, VerbFunction> table = {{"preflight", run_preflight_verb},
                                                            {"generate", run_generate},
                                                            {"verify", run_verify},
                                                            {"train", run_train},
                                                            {"evaluate", run_evaluate},
                                                            {"quickstart", run_quickstart},
                                                            {"import", run_import},
                                                            {"export", run_export},
                                                            {"inspect", run_inspect},
                                                            {"nano-lm", nano_lm}};
  return table;
}

void set_verbosity(int verbosity) {
  set_log_level(verbosity < 0    ? LogLevel::kWarning
                : verbosity == 0 ? LogLevel::kInfo
                                 : LogLevel::kDebug);
  set_progress_mode(verbosity < 0 ? ProgressMode::kNone : ProgressMode::kAuto);
}

// torch's errors carry a stack trace; its first line is enough, and running out of memory has a
// code of its own.
int run(const CommandLine& command) {
  try {
    const auto verb = verbs().find(command.verb);
    if (verb == verbs().end()) not_in_this_version(command.verb);
    return verb->second(command);
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const std::string line = printable(text.substr(0, text.find('\n')), 300);
    const bool memory = text.find("out of memory") != std::string::npos ||
                        text.find("can't allocate memory") != std::string::npos;
    if (!memory) throw Error({.what = "torch: " + line});
    throw Error({.code = ExitCode::kDevice,
                 .what = line,
                 .remedy = "lower data.batch_tokens or train.*.batch.size, use "
                           "pair.source.layer_streaming or data.sequential; "
                           "`kvlingua preflight` says what fits"});
  }
}

}  // namespace
}  // namespace kvlingua

extern "C" __attribute__((visibility("default"))) int kvlingua_main(
    const kvlingua::CommandLine& command) {
  kvlingua::install_terminate_line();
  kvlingua::install_stop_handlers();
  return kvlingua::guarded([&] {
    kvlingua::set_verbosity(command.verbosity);
    return kvlingua::run(command);
  });
}
