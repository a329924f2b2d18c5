#include "interchange.h"

#include "checkpoints/interchange.h"
#include "verbs.h"

namespace kvlingua::verbs {

int ImportVerb::run(const CommandLine& command) const {
  const auto& [format, from, out] =
      std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  import_checkpoint(format, from, out);
  return 0;
}

int ExportVerb::run(const CommandLine& command) const {
  const auto& [format, from, out] =
      std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  export_checkpoint(format, from, out);
  return 0;
}

}  // namespace kvlingua::verbs
