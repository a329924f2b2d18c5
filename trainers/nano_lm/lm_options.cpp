#include "trainers/nano_lm/lm_options.h"

namespace kvlingua {

LmOptions LmOptions::from_yaml(std::string_view text, const std::string& file,
                               const std::vector<std::string>& overrides) {
  LmOptions options;
  Places places;
  std::vector<Problem> problems = read_options(visit_of(options), text, file, &places);
  for (const std::string& assignment : overrides) {
    for (Problem& problem : set_option(visit_of(options), assignment, &places)) {
      problems.push_back(std::move(problem));
    }
  }
  if (problems.empty()) problems = check_options(visit_of(options), places, file);
  throw_first(problems);
  return options;
}

}  // namespace kvlingua
