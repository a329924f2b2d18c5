#include "preflight.h"

#include "kvlingua/preflight/preflight.h"
#include "verbs.h"

namespace kvlingua::verbs {

int PreflightVerb::run(const CommandLine& command) const {
  const Recipe recipe = load_recipe(command);
  const RunContext context = context_of(command, recipe);
  Preflight result = run_preflight(recipe, context);
  rehearse(result, context, {});
  put_result(command, to_text(result), to_json(result));
  if (!result.can_run()) throw cannot_run(result);
  return 0;
}

}  // namespace kvlingua::verbs
