// The only file that sees every stage: one small function per verb, from the command line to a
// stage and back to a result.
//
// Built as a shared library that the launcher loads when a verb needs torch. Results go to stdout,
// everything else to stderr; whatever is thrown becomes one line and an exit code.
#include <c10/util/Exception.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "datasets/generate.h"
#include "datasets/verify.h"
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
#include "trainers/lm_trainer.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

Recipe load_recipe(const CommandLine& command) {
  const std::string named = command.arguments.empty() ? "recipe/nano.yaml" : command.arguments[0];
  Recipe recipe = Recipe::load(find_recipe(named), command.set);
  for (const std::string& note : recipe.notes) log_warning(note);
  return recipe;
}

RunContext context_of(const CommandLine& command, const Recipe& recipe) {
  RunContext context;
  context.world = World::from_environment();
  context.device = resolve_device(command.device.empty() ? recipe.pair.device : command.device,
                                  context.world.local_rank)
                       .str();
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

int not_in_this_version(const std::string& what) {
  throw Error({.where = what, .what = "not in this version"});
}

int run_stage(const CommandLine& command) {
  const Recipe recipe = load_recipe(command);
  const RunContext context = context_of(command, recipe);
  return not_in_this_version(command.verb);
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) throw Error({.where = path, .what = "cannot be written"});
}

int run_inspect(const CommandLine& command) {
  InspectOptions options;
  options.name = command.arguments[0];
  options.directory = resolve_model(options.name);
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
  if (!command.out.empty()) write_text(command.out, inspect_metadata(report).dump(1) + "\n");
  if (command.json_on_stdout()) {
    std::cout << report.dump(1) << std::endl;
  } else {
    if (!command.json.empty()) write_text(command.json, report.dump(1) + "\n");
    std::cout << inspect_table(report) << std::flush;
  }
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

int run_generate(const CommandLine& command) {
  const Recipe recipe = load_recipe(command);
  const GenerateResult result = generate(recipe, context_of(command, recipe));
  if (!command.json.empty()) write_json(command.json, result.to_json());
  return 0;
}

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

using VerbFunction = int (*)(const CommandLine&);
const std::map<std::string, VerbFunction>& verbs() {
  static const std::map<std::string, VerbFunction> table = {
      {"preflight", run_stage},  {"generate", run_generate}, {"verify", run_verify},
      {"train", run_stage},      {"evaluate", run_stage},    {"sweep", run_stage},
      {"identity", run_stage},   {"quickstart", run_stage},  {"inspect", run_inspect},
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
    return verb == verbs().end() ? not_in_this_version(command.verb) : verb->second(command);
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
