#include "preflight.h"

#include <optional>

#include "kvlingua/preflight/preflight.h"
#include "verbs.h"

namespace kvlingua::verbs {

int PreflightVerb::run(const CommandLine& command) const {
  const Recipe recipe = load_recipe(command);
  const RunContext context = context_of(command, recipe);
  std::vector<std::optional<Card>> planned;
  for (const std::string& card : cards) planned.emplace_back(find_card(card));
  if (planned.empty()) planned.emplace_back(std::nullopt);
  std::string text;
  Json all = Json::array();
  std::optional<Error> refused;
  for (const std::optional<Card>& card : planned) {
    Preflight result = run_preflight(recipe, context, card);
    rehearse(result, context, {});
    text += cat(text.empty() ? "" : "\n", to_text(result));
    all.push_back(to_json(result));
    if (!result.can_run() && !refused) refused = cannot_run(result);
  }
  put_result(command, text, all.size() > 1 ? Json{{"cards", all}} : all.front());
  if (refused) throw *refused;
  return 0;
}

}  // namespace kvlingua::verbs
