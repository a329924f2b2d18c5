// The command line of kvlingua: what every verb understands, and how a verb declares the rest.
//
// A verb is a struct of its own options with a name, a help text, declare() and run(); src/verbs
// has one a file and list.h all of them. Nothing here knows torch, so --help answers at once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace kvlingua {

struct CommandLine {
  std::string verb;                    // "train"; "recipe ls" and the like are two words
  std::vector<std::string> arguments;  // positional: recipes, models, paths
  std::vector<std::string> set;        // --set a.b=c, in order
  std::string json;                    // --json: empty, "-" or a file
  std::string device;                  // --device; empty: what the recipe says
  std::optional<int64_t> seed;         // --seed
  std::string out;                     // --out: a folder, or a file for a verb that writes one
  int verbosity = 0;                   // -q -1, -v 1, -vv 2

  bool json_on_stdout() const { return json == "-"; }
};

// Empty when `text` is a whole number from `least` to `most`, else what CLI11 says of it.
std::string whole_number_range(const std::string& text, int64_t least, int64_t most);

// What a verb takes besides, read straight into its fields; defaults are what the fields hold.
class OptionList {
 public:
  OptionList(CLI::App& app, CommandLine& command) : app_(app), command_(command) {}

  // Positional words, `least` to `most` of them. `name`: "RECIPE"; underscores are spaces.
  void arguments(const char* name, const char* help, int least, int most);
  // The same where the name already says every word.
  void named_arguments(const char* name, const char* help, int least, int most);
  // `excludes`: a flag declared before that may not stand beside it.
  void flag(const char* name, bool& value, const char* help, const char* excludes = nullptr);
  // Adds the flag's name, without dashes, to `named`.
  void flag(const char* name, std::vector<std::string>& named, const char* help);
  void text(const char* name, std::string& value, const char* type, const std::string& help,
            const std::vector<std::string>& choices = {});
  // The option `name`, declared before, must be given.
  void require(const char* name);
  // May be given again.
  void texts(const char* name, std::vector<std::string>& values, const char* type,
             const char* help);
  // `count` words after one name.
  void words(const char* name, std::vector<std::string>& values, int count, const char* type,
             const char* help);
  // From 1 up, to `most` when it is above 0.
  void number(const char* name, int64_t& value, const char* help, int64_t most = 0);
  // For this program's own use: in no help.
  void hidden(const char* name, int64_t& value);

 private:
  CLI::App& app_;
  CommandLine& command_;
};

struct VerbText {
  const char* name;
  const char* help;
  const char* sections = "";  // of recipes: those whose keys the help lists
  bool writes_file = false;   // --out names a file, not a folder
};

struct Verb {
  VerbText text;
  // Makes the verb's options and declares them.
  std::function<std::shared_ptr<void>(OptionList&)> declare;
  // Does it, with the options that declare() made; returns the exit code. Empty where the verb's
  // action is not linked.
  std::function<int(const CommandLine&, const void*)> run;
};

struct ParsedCommandLine {
  CommandLine command;
  const Verb* verb = nullptr;
  std::shared_ptr<void> options;  // of the verb
  std::string answer;  // --help, --version: to be printed on stdout, and nothing else done
};
// Throws Error (kUsage) with the nearest verb or option. `verbs` must outlive the result.
ParsedCommandLine parse_command_line(const std::vector<Verb>& verbs, int argc,
                                     const char* const* argv, const std::string& version);

}  // namespace kvlingua
