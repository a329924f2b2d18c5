// ask: uses what was trained. The source reads a context, the target answers from its translated
// cache, streaming.
#include <ATen/Parallel.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <vector>

#include "ask.h"
#include "checkpoints/load_projector.h"
#include "kvlingua/base/clock.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/bridge/cache_bridge.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/json.h"
#include "verbs.h"

namespace kvlingua::verbs {
namespace {

// Throws when the reader of stdout has gone, which ends the answer.
void say(std::string_view text) {
  if (!write_stdout(text))
    throw Error({.code = ExitCode::kFailed, .where = "stdout", .what = "Broken pipe"});
}

namespace fs = std::filesystem;

Error usage(std::string what, std::string remedy) {
  return Error({.code = ExitCode::kUsage,
                .where = "ask",
                .what = std::move(what),
                .remedy = std::move(remedy)});
}

// What is asked with: the recipe's run, or a checkpoint with the recipe that it keeps.
struct Asked {
  Recipe recipe;
  fs::path checkpoint;
};

Asked asked_of(const CommandLine& command, const AskVerb& verb) {
  const fs::path named = resolve_path(command.arguments.at(0));
  std::error_code ignored;
  if (!fs::is_directory(named, ignored)) {
    Asked asked{.recipe = load_recipe(command), .checkpoint = {}};
    const RunPaths paths =
        run_paths(command.out, asked.recipe.dataset_name(), asked.recipe.run_name());
    asked.checkpoint =
        verb.checkpoint.empty() ? paths.run : fs::path(resolve_path(verb.checkpoint));
    return asked;
  }
  const std::string yaml = load_projector(named, at::kCPU, at::kFloat, verb.stage).recipe_yaml;
  if (yaml.empty()) {
    throw Error({.code = ExitCode::kInput,
                 .where = named.string(),
                 .what = "the checkpoint does not say which pair it is of",
                 .remedy = "name a recipe: kvlingua ask RECIPE --checkpoint " + named.string()});
  }
  return {Recipe::from_yaml(yaml, (named / "recipe.yaml").string(), command.set), named};
}

// A file's text without a byte order mark, Windows' line ends and those at its end.
std::string as_typed(std::string_view file) {
  std::string text(without_bom(file));
  for (size_t at = 0; (at = text.find("\r\n", at)) != std::string::npos;) text.erase(at, 1);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// --context: "-" is stdin, the name of a file is the file, anything else is the text itself.
std::string context_of_words(const std::string& words) {
  if (words == "-") return as_typed(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  std::error_code ignored;
  if (fs::is_regular_file(words, ignored)) return as_typed(read_text_file(words));
  if (fs::is_fifo(words, ignored)) {  // --context <(command)
    std::ifstream pipe(words, std::ios::binary);
    return as_typed(std::string(std::istreambuf_iterator<char>(pipe), {}));
  }
  if (fs::is_directory(words, ignored)) {
    throw Error({.code = ExitCode::kInput,
                 .where = printable(words),
                 .what = "is a folder",
                 .remedy = "--context takes a text, a file or - for stdin"});
  }
  const bool one_word = words.find_first_of(" \t\n") == std::string::npos;
  if (one_word &&
      (words.find('/') != std::string::npos || words.ends_with(".txt") || words.ends_with(".md"))) {
    throw Error({.code = ExitCode::kInput,
                 .where = printable(words),
                 .what = "no such file",
                 .remedy = "--context takes a text, a file or - for stdin"});
  }
  return words;
}

struct NamedReply {
  std::string name;
  Reply reply;
  double first_token_seconds = 0;  // everything that came before it counted
};

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 1 ? "%.0f ms" : "%.2f s",
                seconds < 1 ? seconds * 1e3 : seconds);
  return text;
}

std::string column(std::string text, size_t width) {
  text.resize(std::max(width, text.size() + 1), ' ');
  return text;
}

// A line of the --beside table as far as the answer.
std::string beside_head(const std::string& name, double first_token, int64_t bytes) {
  return column(name, 12) + column(seconds_text(first_token), 13) +
         column(bytes_text(static_cast<double>(bytes)), 12);
}

std::string indented(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\n' ? "\n" + std::string(37, ' ') : std::string(1, c);
  return out;
}

class Asker {
 public:
  // `shows`: print what is said while it is said.
  Asker(const AskVerb& verb, bool shows, const CacheBridge& bridge)
      : verb_(verb), shows_(shows), bridge_(bridge) {}

  void read(const std::string& text) {
    context_ = bridge_.read(text);
    log_info(cat("the source read ", context_.source_tokens, " tokens in ",
                 seconds_text(context_.read_seconds), "; translated to ", context_.target_tokens,
                 " in ", seconds_text(context_.translate_seconds), ", ",
                 bytes_text(static_cast<double>(context_.bytes))));
  }

  std::vector<NamedReply> ask(const std::string& question) const {
    std::vector<NamedReply> replies;
    const bool beside = verb_.beside;
    if (beside && shows())
      say(column("", 12) + column("first token", 13) + column("moved", 12) + "answer\n");
    replies.push_back(translated(question));
    if (!beside) return replies;
    for (const char* name : {"full_text", "baseline"}) {
      const bool whole = std::string_view(name) == "full_text";
      const Reply reply =
          bridge_.ask_text(whole ? context_.text : std::string(), question, options());
      check_stop();
      if (shows()) {
        say(beside_head(name, reply.first_token_seconds, reply.context_bytes) +
            indented(reply.text) + "\n");
      }
      replies.push_back({name, reply, reply.first_token_seconds});
    }
    return replies;
  }

  Json to_json(const std::string& question, const std::vector<NamedReply>& replies) const {
    Json json = {{"context",
                  {{"source_tokens", context_.source_tokens},
                   {"target_tokens", context_.target_tokens},
                   {"bytes", context_.bytes},
                   {"read_seconds", context_.read_seconds},
                   {"translate_seconds", context_.translate_seconds}}},
                 {"question", question}};
    for (const NamedReply& r : replies) {
      json["answers"][r.name] = {{"text", r.reply.text},
                                 {"tokens", r.reply.ids.size()},
                                 {"stopped", r.reply.stopped},
                                 {"bytes", r.reply.context_bytes},
                                 {"first_token_seconds", r.first_token_seconds},
                                 {"seconds", r.reply.seconds}};
    }
    return json;
  }

 private:
  bool shows() const { return shows_; }

  AskOptions options() const {
    AskOptions options;
    if (verb_.limit > 0) options.max_new_tokens = verb_.limit;
    options.on_text = [](std::string_view) { return !stop_requested(); };
    return options;
  }

  static void check_stop() {
    if (stop_requested()) throw stopped_error("the answer was not finished");
  }

  NamedReply translated(const std::string& question) const {
    AskOptions how = options();
    const double begin = context_.read_seconds + context_.translate_seconds;
    double first_token = -1;
    const auto head = [&](double seconds) {
      if (first_token >= 0 || !verb_.beside || !shows()) return;
      say(beside_head("translated", seconds, context_.bytes));
    };
    const double asked = wall_seconds();
    how.on_text = [&](std::string_view piece) {
      head(begin + wall_seconds() - asked);
      if (first_token < 0) first_token = begin + wall_seconds() - asked;
      if (shows()) say(verb_.beside ? indented(piece) : std::string(piece));
      return !stop_requested();
    };
    const Reply reply = bridge_.ask(context_, question, how);
    head(begin + reply.first_token_seconds);  // nothing was said
    if (shows()) say("\n");
    check_stop();
    return {"translated", reply, begin + reply.first_token_seconds};
  }

  const AskVerb& verb_;
  bool shows_;
  const CacheBridge& bridge_;
  CacheBridge::Context context_;
};

// A line that a person types; none at the end. Ctrl-C ends the dialogue between two keys.
std::optional<std::string> typed_line() {
  say("> ");
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  while (::poll(&input, 1, 100) == 0) {
    if (stop_requested()) return std::nullopt;
  }
  std::string line;
  if (!std::getline(std::cin, line)) {
    say("\n");
    return std::nullopt;
  }
  return line;
}

void dialogue(Asker& asker) {
  say("Ask about the context; each question stands alone. An empty line or Ctrl-D ends.\n");
  while (const auto line = typed_line()) {
    if (line->find_first_not_of(" \t") == std::string::npos) return;
    try {
      asker.ask(*line);
    } catch (const Error& error) {
      if (stop_requested() || error.code() == ExitCode::kFailed) throw;
      log_warning(error.what());  // too long a question ends no dialogue
    }
  }
}

}  // namespace

int AskVerb::run(const CommandLine& command) const {
  const bool asked_now = command.arguments.size() > 1;
  if (asked_now && command.arguments[1].find_first_not_of(" \t\n") == std::string::npos)
    throw usage("the question is empty", "kvlingua ask RECIPE --context TEXT \"question\"");
  if (!asked_now && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || !command.json.empty()))
    throw usage("no question", "kvlingua ask RECIPE --context TEXT \"question\"");
  const std::string text = context_of_words(context);
  if (text.find_first_not_of(" \t\n\r") == std::string::npos)
    throw usage("the context is empty", "--context takes a text, a file or - for stdin");

  const Asked asked = asked_of(command, *this);
  const RunContext where = context_of(command, asked.recipe);
  if (where.workers > 1) at::set_num_threads(1);  // one question is no work for several
  const at::Device device(where.device);
  const LoadedProjector loaded = load_projector(asked.checkpoint, device, at::kFloat, stage);
  for (const std::string& skipped : loaded.skipped) log_warning(skipped);
  const OpenModel source = open_model(asked.recipe.pair.source, device);
  const OpenModel target = open_model(asked.recipe.pair.target, device);
  loaded.check_models(source.model, target.model);
  log_info(cat(loaded.stage, " of ", loaded.path.string()));
  const CacheBridge bridge(source, target, *loaded.projector,
                           alignment_kind_from_name(asked.recipe.pair.alignment));
  Asker asker(*this, !command.json_on_stdout(), bridge);
  asker.read(text);
  if (!asked_now) {
    dialogue(asker);
    return 0;
  }
  const std::vector<NamedReply> replies = asker.ask(command.arguments[1]);
  if (!command.json.empty()) {
    Json json = {{"source", asked.recipe.pair.source.name},
                 {"target", asked.recipe.pair.target.name},
                 {"checkpoint", loaded.path.string()},
                 {"stage", loaded.stage}};
    json.update(asker.to_json(command.arguments[1], replies));
    write_json(command.json, json);
  }
  return 0;
}

}  // namespace kvlingua::verbs
