#include "kvlingua/config/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <limits>
#include <sstream>

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
environment: NO_COLOR, HF_HOME, HF_HUB_CACHE, OMP_NUM_THREADS, KVLINGUA_MODELS, KVLINGUA_ROOT, torchrun's and Slurm's variables
)";

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

// Calls visit(verb, its declared options) for each.
template <class Visit>
void visit_declared(const std::vector<Verb>& verbs, const Visit& visit) {
  for (const Verb& verb : verbs) {
    CLI::App app;
    CommandLine unused;
    OptionList list(app, unused);
    const auto options = verb.declare(list);
    visit(verb.text, app);
  }
}

std::string top_help(const std::vector<Verb>& verbs) {
  std::string text = kHelpBegin;
  visit_declared(verbs, [&](const VerbText& verb, const CLI::App& app) {
    std::string line = cat("  ", verb.name, arguments_of(app));
    line.resize(std::max<size_t>(line.size() + 1, 35), ' ');
    text += line + verb.help + "\n";
  });
  return text + kHelpEnd;
}

std::string in_table(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

// The part of docs/commands.md that is generated from the declarations; a test compares.
std::string markdown_help(const std::vector<Verb>& verbs) {
  std::string text;
  visit_declared(verbs, [&](const VerbText& verb, const CLI::App& app) {
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
  });
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

const Verb& find_verb(const std::vector<Verb>& verbs, const std::string& first,
                      const std::string& second) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs) {
    const std::string name = verb.text.name;
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

std::string seed_range(const std::string& text) {
  return whole_number_range(text, 0, std::numeric_limits<int64_t>::max());
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
      "-v,--verbose", [&c](int64_t count) { c.verbosity = static_cast<int>(count); },
      "say more: models, shards, projectors and blocks as they come");
  app.add_flag(
      "-q,--quiet", [&c](int64_t) { c.verbosity = -1; }, "no progress, only warnings");
}

// Of the kinds that CLI11 words in its own terms.
std::string reworded(const CLI::ParseError& error, const CLI::App& app) {
  std::string text = error.what();
  if (error.get_name() == "ArgumentMismatch") {
    for (const CLI::Option* option : app.get_options()) {
      if (!text.starts_with(option->get_name(option->get_positional()) + ":")) continue;
      return option->get_positional()
                 ? cat("expected", arguments_of(app), ", got more or fewer words")
                 : cat(option->get_name(), ": expected ", option->get_type_name());
    }
  }
  if (error.get_name() == "RequiredError") std::replace(text.begin(), text.end(), '_', ' ');
  return printable(text, 200);
}

// CLI11 words its errors for a screen; ours are one line with a remedy.
Error translated(const CLI::ParseError& error, const CLI::App& app,
                 const std::vector<std::string>& words, const VerbText& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string help = cat("`kvlingua ", verb.name, " --help`");
  const auto without_dashes = [](const std::string& name) { return name.substr(2); };
  for (const std::string& word : words) {
    if (!word.starts_with("--") || word.size() < 3) continue;
    const std::string name = word.substr(0, word.find('='));
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      std::vector<std::string> known;
      std::ranges::transform(names, std::back_inserter(known), without_dashes);
      const std::string near = nearest_name(without_dashes(name), known);
      return usage(cat(verb.name, ": unknown option ", printable(name, 60)),
                   near.empty() ? help : "did you mean --" + near + "?");
    }
  }
  return usage(cat(verb.name, ": ", reworded(error, app)), help);
}

void check_words(const std::vector<std::string>& words) {
  if (words.empty()) throw usage("no verb", "`kvlingua --help` lists them");
  // Names end up in JSON, YAML and HDF5, which are UTF-8.
  for (const std::string& word : words) {
    if (find_invalid_utf8(word))
      throw usage(cat("not UTF-8: ", printable(word)),
                  "rename the file or folder, or make a link to it with a name in UTF-8");
  }
}

// --help, --version and what else needs no verb; empty when there is one.
std::string answer_without_verb(const std::vector<Verb>& verbs,
                                const std::vector<std::string>& words, const std::string& version) {
  const std::string& first = words[0];
  if (first == "--help" || first == "-h" || (first == "help" && words.size() == 1))
    return top_help(verbs);
  if (first == "recipe" && words.size() > 1 && (words[1] == "--help" || words[1] == "-h"))
    return top_help(verbs);
  if (first == "--help-markdown") return markdown_help(verbs);
  if (first == "--version" || first == "-V") return "kvlingua " + version + "\n";
  return {};
}

}  // namespace

ParsedCommandLine parse_command_line(const std::vector<Verb>& verbs, int argc,
                                     const char* const* argv, const std::string& version) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  check_words(words);
  ParsedCommandLine parsed;
  parsed.answer = answer_without_verb(verbs, words, version);
  if (!parsed.answer.empty()) return parsed;
  if (words[0] == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  if (words[0].starts_with("-"))
    throw usage(cat("an option before the verb: ", printable(words[0], 60)),
                "options follow the verb");

  const Verb& verb = find_verb(verbs, words[0], words.size() > 1 ? words[1] : "");
  const bool two_words = std::string(verb.text.name).find(' ') != std::string::npos;
  words.erase(words.begin(), words.begin() + (two_words ? 2 : 1));

  parsed.verb = &verb;
  parsed.command.verb = verb.text.name;
  CLI::App app(verb.text.help, std::string("kvlingua ") + verb.text.name);
  OptionList list(app, parsed.command);
  parsed.options = verb.declare(list);
  add_common(app, parsed.command, !verb.text.writes_file);
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    return {.command = {}, .answer = app.help() + sections_help(verb.text.sections)};
  } catch (const CLI::ParseError& error) {
    throw translated(error, app, words, verb.text);
  }
  parse_device(parsed.command.device);
  return parsed;
}

}  // namespace kvlingua
