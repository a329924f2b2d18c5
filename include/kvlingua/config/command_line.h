// The whole command line of kvlingua: verbs, arguments, options. Torch-free, so that --help answers
// at once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvlingua {

struct CommandLine {
  std::string verb;                    // "train"; "recipe ls" and the like are two words
  std::vector<std::string> arguments;  // positional: recipes, models, paths
  std::vector<std::string> set;        // --set a.b=c, in order
  std::string json;                    // --json: empty, "-" or a file
  std::string device;                  // --device; empty: what the recipe says
  std::optional<int64_t> seed;         // --seed
  std::string out;                     // --out: a folder (inspect: metadata.json)
  int verbosity = 0;                   // -q -1, -v 1, -vv 2

  // train, generate, evaluate, quickstart
  std::string stage;
  bool resume = false, restart = false, dry_run = false, skip_bad = false;
  std::string checkpoint;
  std::vector<std::string> compare;
  bool confirm = false;
  int64_t seeds = 1;
  int64_t limit = 0;

  // inspect
  std::vector<std::string> prompt;
  std::string prompts, dump, dtype;
  int64_t determinism = 0;
  bool bench = false;
  std::string weights;           // inspect
  bool layer_streaming = false;  // inspect, generate

  // quickstart: this is a small run that preflight started, of a recipe with so many rows of
  // training; 0: it is none.
  int64_t rehearsal = 0;

  // ask
  struct Ask {
    std::string context;  // a text, a file, or "-"
    bool beside = false;
  };
  Ask ask;

  // quickstart: the parts named; none means all that exist
  std::vector<std::string> parts;

  // sweep, identity (with prompts, dtype, layer_streaming, compare, limit)
  std::vector<std::string> models;  // --model
  std::vector<std::string> scales;  // --scale
  bool all_scales = false, quantize = false, input_only = false, skip_permutation = false;
  int64_t runs = 1;
  std::string personas, format;

  bool json_on_stdout() const { return json == "-"; }
};

struct ParsedCommandLine {
  CommandLine command;
  std::string answer;  // --help, --version: to be printed on stdout, and nothing else done
};
// Throws Error (kUsage) with the nearest verb or option.
ParsedCommandLine parse_command_line(int argc, const char* const* argv, const std::string& version);

}  // namespace kvlingua
