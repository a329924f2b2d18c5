#include "eval/conditions/list.h"

#include <algorithm>
#include <set>

#include "eval/conditions/partial.h"
#include "eval/conditions/projected.h"
#include "eval/conditions/raw.h"
#include "eval/conditions/same_cache.h"
#include "eval/conditions/text.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

Imitated imitated_of(const EvalOptions& options,
                     const std::map<std::string, NamedProjector>& projectors) {
  const auto found = projectors.find(options.gated);
  if (found == projectors.end()) return {"own", nullptr};
  return {options.gated, found->second.projector};
}

std::vector<std::unique_ptr<Condition>> make_conditions(
    const EvalOptions& options, const std::map<std::string, NamedProjector>& projectors,
    const KvShape& target) {
  std::vector<std::string> wanted{"baseline", "full_text"};
  for (const auto& name : options.conditions) {
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) wanted.push_back(name);
    if (name == "raw") wanted.push_back("raw_text");
  }
  std::vector<int64_t> shifts = options.shifts;
  std::sort(shifts.begin(), shifts.end());
  shifts.erase(std::unique(shifts.begin(), shifts.end()), shifts.end());
  if (shifts.empty()) shifts.push_back(40);
  const Imitated imitated = imitated_of(options, projectors);

  std::vector<std::unique_ptr<Condition>> list;
  for (const auto& name : wanted) {
    if (name == "baseline")
      list.push_back(make_baseline());
    else if (name == "full_text")
      list.push_back(make_full_text());
    else if (name == "same_cache")
      list.push_back(make_same_cache());
    else if (name == "raw")
      list.push_back(make_raw());
    else if (name == "raw_text")
      list.push_back(make_raw_text());
    else if (name == "raw_shifted") {
      // The plain name is the largest offset; the smaller ones carry theirs.
      for (int64_t shift : shifts)
        list.push_back(
            make_raw_shifted(shift == shifts.back() ? name : cat(name, "_", shift), shift));
    } else if (name == "raw_rerotated")
      list.push_back(make_raw_rerotated(name, shifts.back()));
    else if (name == "noise")
      list.push_back(make_noise(imitated));
    else if (name == "shuffled")
      list.push_back(make_shuffled(imitated));
    else if (name == "averaged")
      list.push_back(make_averaged(imitated));
    else if (name == "wrong_text")
      list.push_back(make_wrong_text());
    else if (name == "wrong_source")
      list.push_back(make_wrong_source(imitated));
    else if (name == "source_alone")
      continue;  // no condition of the target: source_alone.h
    else if (name == "text_message")
      list.push_back(make_text_message());
    else {
      const auto found = projectors.find(name);
      if (found == projectors.end())
        throw Error({.code = ExitCode::kUsage,
                     .where = "eval.conditions",
                     .what = "no checkpoint for this condition",
                     .got = name,
                     .expected = "one trained by this recipe's stages",
                     .remedy = cat("train first, or take ", name, " out of eval.conditions")});
      list.push_back(make_projected(name, *found->second.projector, found->second.checkpoint));
    }
  }
  std::set<std::string> names;
  for (const auto& condition : list) names.insert(condition->name());
  for (const auto& part : options.partial) {
    if (!names.insert(part.name).second)
      throw Error({.code = ExitCode::kUsage,
                   .where = "eval.partial",
                   .what = "name of another condition",
                   .got = part.name});
    list.push_back(make_partial(part, imitated, target));
  }
  return list;
}

}  // namespace kvlingua
