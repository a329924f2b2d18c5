#include "kvlingua/config/command_line.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <functional>

#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/config/device_name.h"
#include "kvlingua/config/options.h"
#include "kvlingua/config/recipe.h"

namespace kvlingua {
namespace {

constexpr const char* kHelpBegin =
    R"(kvlingua trains and judges projectors that translate the key/value cache of one language model into another's.

usage: kvlingua <verb> [arguments] [--set a.b=c ...] [--json FILE|-] [--device auto|cpu|cuda|cuda:N] [--seed N] [--out DIR] [-v|-q]

)";
constexpr const char* kHelpEnd = R"(
  kvlingua <verb> --help says more. `kvlingua recipe keys` explains every key a recipe or --set can name.

exit codes: 0 ok, 1 failed, 2 usage or recipe, 3 a gate was not met, 4 input data or model unusable, 5 no device or memory,
            6 corrupt file, 7 disk full, 75 stopped by SIGTERM after saving, 130 Ctrl-C after saving
environment: NO_COLOR, HF_HOME, HF_HUB_CACHE, OMP_NUM_THREADS, KVLINGUA_ROOT, torchrun's and Slurm's variables
)";

using Add = std::function<void(CLI::App&, CommandLine&)>;
struct Verb {
  const char* name;
  const char* help;
  Add add;               // its own arguments and options
  const char* sections;  // recipe sections that its help lists
};

void recipe_argument(CLI::App& app, CommandLine& c) {
  app.add_option("RECIPE", c.arguments, "a YAML file, or the name of a shipped recipe")
      ->required()
      ->expected(1);
}
void run_options(CLI::App& app, CommandLine& c) {
  CLI::Option* resume =
      app.add_flag("--resume", c.resume, "go on with what is there (the default)");
  app.add_flag("--restart", c.restart, "throw away what this verb made before")->excludes(resume);
  app.add_flag("--dry-run", c.dry_run, "print the resolved recipe and the plan, do nothing");
}
void limit_option(CLI::App& app, CommandLine& c, const char* help) {
  app.add_option("--limit", c.limit, help)->check(CLI::PositiveNumber)->type_name("N");
}

void streaming_option(CLI::App& app, CommandLine& c) {
  app.add_flag("--layer-streaming", c.layer_streaming,
               "keep one layer in memory at a time: models larger than the device");
}

void add_preflight(CLI::App& app, CommandLine& c) { recipe_argument(app, c); }
void add_generate(CLI::App& app, CommandLine& c) {
  recipe_argument(app, c);
  run_options(app, c);
  limit_option(app, c, "at most N samples, for a quick look");
  streaming_option(app, c);
  app.add_flag("--skip-bad", c.skip_bad, "skip and count malformed samples");
}
void add_train(CLI::App& app, CommandLine& c) {
  recipe_argument(app, c);
  run_options(app, c);
  std::vector<std::string> names;
  std::string all;
  for (const std::string_view name : stage_names()) {
    names.emplace_back(name);
    all += cat(all.empty() ? "" : ", ", name);
  }
  app.add_option("--stage", c.stage, "only this one: " + all)
      ->check(CLI::IsMember(names))
      ->type_name("NAME");
  app.add_option("--checkpoint", c.checkpoint,
                 "start from this checkpoint instead of the run's latest")
      ->type_name("DIR");
  app.add_option("--seeds", c.seeds,
                 "train N times with seeds one apart, into <run>/seeds/; for evaluate --confirm")
      ->check(CLI::Range(1, 100))
      ->type_name("N");
}
void add_evaluate(CLI::App& app, CommandLine& c) {
  recipe_argument(app, c);
  run_options(app, c);
  app.add_option("--checkpoint", c.checkpoint, "judge this checkpoint instead of the run's latest")
      ->type_name("DIR");
  limit_option(app, c, "first N items of each family only (marked so in the report)");
  app.add_flag("--confirm", c.confirm,
               "one look at fresh items by several training seeds; else a run is exploratory");
  app.add_option("--compare", c.compare, "two checkpoints side by side, paired")
      ->expected(2)
      ->type_name("A B");
}
void add_inspect(CLI::App& app, CommandLine& c) {
  app.add_option("MODEL", c.arguments, "a directory, or a hub name in the local Hugging Face cache")
      ->required()
      ->expected(1);
  app.add_option("--prompt", c.prompt, "prompt to read; may be given again")
      ->expected(1)
      ->type_name("TEXT")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--prompts", c.prompts, "file of prompts, one a line")->type_name("FILE");
  app.add_option("--dump", c.dump, "write tokens, keys, values and logits as safetensors")
      ->type_name("FILE");
  app.add_option("--determinism", c.determinism,
                 "run N times, with and without cache: same text and same bits")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  app.add_flag("--bench", c.bench, "cached against uncached decoding by context length");
  app.add_option("--dtype", c.dtype, "compute type")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->type_name("TYPE");
  app.add_option("--weights", c.weights, "how the layers' matrices are held")
      ->check(CLI::IsMember({"auto", "dense", "nf4", "int8"}))
      ->type_name("FORMAT");
  streaming_option(app, c);
  limit_option(app, c, "bench: longest context");
}
void add_verify(CLI::App& app, CommandLine& c) {
  app.add_option("PATH", c.arguments, "pair sets and checkpoints")
      ->required()
      ->expected(1, 1 << 20);
}
void add_format(CLI::App& app, CommandLine& c) {
  app.add_option("FORMAT_FROM_TO", c.arguments, "format, where it is, where it goes")
      ->required()
      ->expected(3)
      ->type_name("");
}
void add_quickstart(CLI::App& app, CommandLine& c) {
  app.add_option("RECIPE", c.arguments, "default: recipe/nano.yaml")->expected(0, 1);
  run_options(app, c);
  limit_option(app, c, "evaluate: first N items of each family only");
  app.add_option("--rehearsal", c.rehearsal)->group("");  // preflight's own: not in --help
  for (const char* part : {"preflight", "train", "validate", "sweep", "identity"}) {
    app.add_flag_callback(
        std::string("--") + part, [&c, part] { c.parts.push_back(part); },
        "this part (several may be named)");
  }
}
void add_nano_lm(CLI::App& app, CommandLine& c) {
  app.add_option("RECIPE", c.arguments, "checkpoints/nano/source.yaml or target.yaml")
      ->required()
      ->expected(1);
  run_options(app, c);
  app.add_flag_callback(
      "--validate", [&c] { c.parts.push_back("validate"); },
      "score the finished model on held-out items instead; exit 3 below 95 %");
  limit_option(app, c, "--validate: N items of each kind (500)");
}
void add_geometry_options(CLI::App& app, CommandLine& c) {
  app.add_option("MODEL|RECIPE", c.arguments, "models by directory or hub name, or one recipe")
      ->expected(0, 1 << 10);
  app.add_option("--model", c.models, "a model, as if named without --model")
      ->expected(1)
      ->type_name("ID")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  run_options(app, c);
  app.add_flag("--quantize", c.quantize, "4-bit weights (NF4)");
  app.add_option("--runs", c.runs,
                 "repeats; greedy ones are equal, which is checked, and count once")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  app.add_option("--dtype", c.dtype, "compute type")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->type_name("TYPE");
  app.add_flag("--input-only", c.input_only, "measure the prompt's cache, write nothing");
  app.add_option("--compare", c.compare, "older results: which of their findings survive")
      ->expected(1)
      ->type_name("OLD.json");
  streaming_option(app, c);
}
void add_sweep(CLI::App& app, CommandLine& c) {
  add_geometry_options(app, c);
  app.add_option("--scale", c.scales, "a named scale such as 0.6B or 7B-q4; may be given again")
      ->expected(1)
      ->type_name("KEY")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--all-scales", c.all_scales, "every named scale");
  app.add_option("--prompts", c.prompts, "prompts by category (YAML or JSON)")->type_name("FILE");
  limit_option(app, c, "first N prompts of each category");
}
void add_identity(CLI::App& app, CommandLine& c) {
  add_geometry_options(app, c);
  app.add_option("--personas", c.personas, "personas, topics and prompts (YAML or JSON)")
      ->type_name("FILE");
  app.add_option("--format", c.format, "how system text and prompt are joined")
      ->check(CLI::IsMember({"chat", "plain", "chatml", "llama3"}))
      ->type_name("FORM");
  app.add_flag("--skip-permutation", c.skip_permutation,
               "no permutation test: faster, and no verdict");
  limit_option(app, c, "first N prompts of each group");
}
void add_ask(CLI::App& app, CommandLine& c) {
  app.add_option("RECIPE_QUESTION", c.arguments,
                 "a recipe whose run is used, or the folder of a run or checkpoint; then the "
                 "question; without one, on a terminal, a dialogue")
      ->required()
      ->expected(1, 2)
      ->type_name("");
  app.add_option("--context", c.ask.context,
                 "what only the source reads: a text, a file, or - for stdin")
      ->required()
      ->type_name("TEXT|FILE|-");
  app.add_flag("--beside", c.ask.beside,
               "the target's answers with the context as text and without it, with the time to the "
               "first token and the bytes moved");
  app.add_option("--stage", c.stage, "of this stage: ridge, regression, distillation, c2c")
      ->type_name("NAME");
  app.add_option("--checkpoint", c.checkpoint, "this checkpoint instead of the run's latest")
      ->type_name("DIR");
  limit_option(app, c, "at most N tokens of answer (256)");
}
void add_recipe_ls(CLI::App&, CommandLine&) {}
void add_recipe_check(CLI::App& app, CommandLine& c) {
  app.add_option("RECIPE", c.arguments, "YAML files, or names of shipped recipes")
      ->required()
      ->expected(1, 1 << 20);
}
void add_recipe_keys(CLI::App& app, CommandLine& c) {
  app.add_option("SECTION", c.arguments, "a section or key, such as train.regression; default: all")
      ->expected(0, 1);
}

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> list = {
      {"preflight", "says whether the recipe can run here; exit 0 only when it can", add_preflight,
       ""},
      {"inspect", "a model's cache: shapes, bytes per token, statistics by layer", add_inspect, ""},
      {"generate", "paired caches into datasets/<name>/; resumes", add_generate, "pair data"},
      {"verify", "re-reads pair sets and checkpoints, names every damaged file (exit 6)",
       add_verify, ""},
      {"train", "the recipe's stages in order into checkpoints/<run>/; resumes", add_train,
       "projector train checkpoint"},
      {"evaluate", "conditions, criteria and report; exit 3 when the gate was not met",
       add_evaluate, "eval"},
      {"sweep", "cognitive modes over models, projectors over pairs of scales; resumes", add_sweep,
       "sweep"},
      {"identity", "persona fingerprints, self-recognition, identity transfer; resumes",
       add_identity, "identity"},
      {"ask", "the source reads --context, the target answers from its translated cache", add_ask,
       "pair"},
      {"import", "a checkpoint of another system: import c2c DIR OUT", add_format, ""},
      {"export", "a checkpoint for another system: export c2c|safetensors|vllm CHECKPOINT OUT",
       add_format, ""},
      {"quickstart", "preflight, generate, train, evaluate; what is done already is skipped",
       add_quickstart, ""},
      {"nano-lm", "trains a model of the embedded pair from scratch; resumes", add_nano_lm, ""},
      {"recipe ls", "lists the shipped recipes", add_recipe_ls, ""},
      {"recipe show", "prints one recipe with every default filled in", recipe_argument, ""},
      {"recipe check", "checks keys, types, ranges: file:line:column and the nearest key name",
       add_recipe_check, ""},
      {"recipe keys", "explains every key of a recipe", add_recipe_keys, ""},
  };
  return list;
}

// What follows a verb's name: "RECIPE", "[RECIPE]", "PATH...".
std::string arguments_of(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional()) continue;
    std::string name = option->get_name(true);
    std::replace(name.begin(), name.end(), '_', ' ');
    if (option->get_expected_max() > 3) name += "...";
    text += option->get_required() ? " " + name : " [" + name + "]";
  }
  return text;
}

std::string top_help() {
  std::string text = kHelpBegin;
  for (const Verb& verb : verbs()) {
    CLI::App app;
    CommandLine unused;
    verb.add(app, unused);
    std::string line = cat("  ", verb.name, arguments_of(app));
    line.resize(std::max<size_t>(line.size() + 1, 27), ' ');
    text += line + verb.help + "\n";
  }
  return text + kHelpEnd;
}

std::string in_table(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

// The part of docs/commands.md that is generated from the declarations above; a test compares.
std::string markdown_help() {
  std::string text;
  for (const Verb& verb : verbs()) {
    CLI::App app;
    CommandLine unused;
    verb.add(app, unused);
    text += cat("### `kvlingua ", verb.name, arguments_of(app), "`\n\n", verb.help, "\n\n");
    std::string rows;
    for (const CLI::Option* option : app.get_options()) {
      const std::string name = option->get_name();
      if (option->get_positional() || option->get_group().empty() || name == "--help" ||
          name == "-h,--help")
        continue;
      const bool flag = option->get_expected_max() == 0;
      // Bounds and choices are worded by CLI11, by each version its own way: left out.
      const std::string type = option->get_type_name();
      rows += cat("| `", name, flag ? "" : " " + in_table(type.substr(0, type.find(':'))), "` | ",
                  in_table(option->get_description()), " |\n");
    }
    if (!rows.empty()) text += "| option | |\n| --- | --- |\n" + rows + "\n";
  }
  return text;
}

Error usage(std::string what, std::string remedy) {
  return Error({.code = ExitCode::kUsage, .what = std::move(what), .remedy = std::move(remedy)});
}

std::string nearest_hint(const std::string& word, const std::vector<std::string>& names,
                         const std::string& otherwise) {
  const std::string nearest = nearest_name(word, names);
  return nearest.empty() ? otherwise : "did you mean " + nearest + "?";
}

const Verb& find_verb(const std::string& first, const std::string& second) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) {
    const std::string name = verb.name;
    if (name == first || name == first + " " + second) return verb;
    const size_t space = name.find(' ');
    if (first == "recipe" && space != std::string::npos) names.push_back(name.substr(space + 1));
    if (first != "recipe") names.push_back(name.substr(0, space));
  }
  if (first != "recipe")
    throw usage("unknown verb " + printable(first, 60),
                nearest_hint(first, names, "`kvlingua --help` lists them"));
  if (second.empty() || second.starts_with('-'))
    throw usage("recipe what?", "kvlingua recipe ls, show, check or keys");
  throw usage("unknown verb recipe " + printable(second, 60),
              nearest_hint(second, names, "kvlingua recipe ls, show, check or keys"));
}

std::string sections_help(const std::string& sections) {
  if (sections.empty()) return {};
  Recipe recipe;
  std::string text = "\nRecipe keys (each also by --set; `kvlingua recipe keys` says more):\n";
  std::istringstream words(sections);
  for (std::string section; words >> section;) {
    for (const OptionRow& row : describe_options(visit_of(recipe))) {
      if (!row.path.starts_with(section + ".") || row.type == "section") continue;
      text += "  " + row.path + "=" + row.value + "\n";
    }
  }
  return text;
}

// CLI11 names a range of doubles, and takes what is above an int64 for its largest value.
std::string seed_range(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0) return {};
  return "got " + text + ", expected a whole number from 0 to 9223372036854775807";
}

void add_common(CLI::App& app, CommandLine& c, bool writes_runs) {
  app.add_option("--set", c.set, "override a recipe key; may be given again")
      ->type_name("a.b=c")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--json", c.json,
                 "the result as JSON; - is stdout, and then nothing else is printed there")
      ->type_name("FILE|-");
  app.add_option("--device", c.device, "auto, cpu, cuda or cuda:N")->type_name("NAME");
  app.add_option("--seed", c.seed, "wins over the recipe's seeds")
      ->check(seed_range)
      ->type_name("N");
  app.add_option("--out", c.out,
                 writes_runs ? "folder for datasets/ and checkpoints/ (default: the project's own)"
                             : "file of the result")
      ->type_name(writes_runs ? "DIR" : "FILE");
  app.add_flag(
      "-v,--verbose", [&c](int64_t count) { c.verbosity = static_cast<int>(count); }, "say more");
  app.add_flag(
      "-q,--quiet", [&c](int64_t) { c.verbosity = -1; }, "no progress, only warnings");
}

// CLI11 words its errors for a screen; ours are one line with a remedy.
Error translated(const CLI::ParseError& error, const CLI::App& app,
                 const std::vector<std::string>& words, const Verb& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string help = cat("`kvlingua ", verb.name, " --help`");
  for (const std::string& word : words) {
    if (!word.starts_with("--") || word.size() < 3) continue;
    const std::string name = word.substr(0, word.find('='));
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return usage(cat(verb.name, ": unknown option ", printable(name, 60)),
                   nearest_hint(name, names, help));
    }
  }
  return usage(cat(verb.name, ": ", printable(error.what(), 200)), help);
}

}  // namespace

ParsedCommandLine parse_command_line(int argc, const char* const* argv,
                                     const std::string& version) {
  ParsedCommandLine parsed;
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (words.empty()) throw usage("no verb", "`kvlingua --help` lists them");
  // Names end up in JSON, YAML and HDF5, which are UTF-8.
  for (const std::string& word : words) {
    if (find_invalid_utf8(word))
      throw usage(cat("not UTF-8: ", printable(word)),
                  "rename the file or folder, or make a link to it with a name in UTF-8");
  }
  if (words[0] == "--help" || words[0] == "-h" || (words[0] == "help" && words.size() == 1))
    return {{}, top_help()};
  if (words[0] == "--help-markdown") return {{}, markdown_help()};
  if (words[0] == "--version" || words[0] == "-V") return {{}, "kvlingua " + version + "\n"};
  if (words[0] == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  if (words[0].starts_with("-"))
    throw usage(cat("an option before the verb: ", printable(words[0], 60)),
                "options follow the verb");
  if (words[0] == "recipe" && words.size() > 1 && (words[1] == "--help" || words[1] == "-h"))
    return {{}, top_help()};

  const Verb& verb = find_verb(words[0], words.size() > 1 ? words[1] : "");
  const bool two_words = std::string(verb.name).find(' ') != std::string::npos;
  words.erase(words.begin(), words.begin() + (two_words ? 2 : 1));

  CommandLine& command = parsed.command;
  command.verb = verb.name;
  CLI::App app(verb.help, std::string("kvlingua ") + verb.name);
  verb.add(app, command);
  add_common(app, command, command.verb != "inspect");
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    return {{}, app.help() + sections_help(verb.sections)};
  } catch (const CLI::ParseError& error) {
    throw translated(error, app, words, verb);
  }
  parse_device(command.device);
  return parsed;
}

}  // namespace kvlingua
