#include "checkpoints/interchange.h"

#include "verbs.h"

namespace kvlingua::verbs {

int import_from(const CommandLine& command) {
  const auto& [format, from, out] =
      std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  import_checkpoint(format, from, out);
  return 0;
}

int export_to(const CommandLine& command) {
  const auto& [format, from, out] =
      std::tie(command.arguments.at(0), command.arguments.at(1), command.arguments.at(2));
  export_checkpoint(format, from, out);
  return 0;
}

}  // namespace kvlingua::verbs
