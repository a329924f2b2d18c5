#include "inspect.h"

#include <sstream>

#include "kvlingua/base/utf8.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/options_json.h"
#include "kvlingua/io/json.h"
#include "kvlingua/model/inspect.h"
#include "verbs.h"

namespace kvlingua::verbs {

int InspectVerb::run(const CommandLine& command) const {
  check_set(command);
  InspectOptions options;
  options.name = command.arguments[0];
  options.directory = locate_model({.name = options.name});
  options.prompts = prompt;
  if (!prompts.empty()) {
    std::istringstream lines{std::string(without_bom(read_text_file(prompts)))};
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) options.prompts.push_back(line);
    }
    if (options.prompts.empty())
      throw Error({.code = ExitCode::kInput,
                   .where = prompts,
                   .what = "holds no prompt",
                   .expected = "one a line"});
  }
  options.load.device = resolve_device(command.device.empty() ? "auto" : command.device);
  options.load.dtype = resolve_dtype(dtype.empty() ? "auto" : dtype, options.load.device);
  options.load.layer_streaming = layer_streaming;
  options.load.weights = weight_options(weights);
  options.dump = dump;
  options.determinism = determinism;
  options.bench = bench;
  if (limit > 0) options.bench_limit = limit;
  const Json report = kvlingua::inspect(options);
  if (!command.out.empty()) write_json(command.out, inspect_metadata(report));
  put_result(command, inspect_table(report), report);
  return static_cast<int>(inspect_repeats(report) ? ExitCode::kOk : ExitCode::kGate);
}

}  // namespace kvlingua::verbs
