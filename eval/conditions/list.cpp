#include "eval/conditions/list.h"

#include <algorithm>
#include <iterator>
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

namespace {

using Conditions = std::vector<std::unique_ptr<Condition>>;

// Those that are made of a name alone, or of the cache that controls imitate.
struct Row {
  const char* name;
  std::unique_ptr<Condition> (*make)(const Imitated& imitated);
};
constexpr Row kRows[] = {
    {"baseline", [](const Imitated&) { return make_baseline(); }},
    {"full_text", [](const Imitated&) { return make_full_text(); }},
    {"same_cache", [](const Imitated&) { return make_same_cache(); }},
    {"raw", [](const Imitated&) { return make_raw(); }},
    {"raw_text", [](const Imitated&) { return make_raw_text(); }},
    {"noise", [](const Imitated& imitated) { return make_noise(imitated); }},
    {"shuffled", [](const Imitated& imitated) { return make_shuffled(imitated); }},
    {"averaged", [](const Imitated& imitated) { return make_averaged(imitated); }},
    {"wrong_text", [](const Imitated&) { return make_wrong_text(); }},
    {"wrong_source", [](const Imitated& imitated) { return make_wrong_source(imitated); }},
    {"text_message", [](const Imitated&) { return make_text_message(); }}};

// In the order asked for, each once, floor and ceiling first.
std::vector<std::string> wanted_names(const EvalOptions& options) {
  std::vector<std::string> wanted{"baseline", "full_text"};
  for (const auto& name : options.conditions) {
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) wanted.push_back(name);
    if (name == "raw") wanted.push_back("raw_text");
  }
  return wanted;
}

std::vector<int64_t> sorted_shifts(const EvalOptions& options) {
  std::vector<int64_t> shifts = options.shifts;
  std::sort(shifts.begin(), shifts.end());
  shifts.erase(std::unique(shifts.begin(), shifts.end()), shifts.end());
  if (shifts.empty()) shifts.push_back(40);
  return shifts;
}

std::unique_ptr<Condition> projected_by(const std::string& name,
                                        const std::map<std::string, NamedProjector>& projectors) {
  const auto found = projectors.find(name);
  if (found == projectors.end())
    throw Error({.code = ExitCode::kUsage,
                 .where = "eval.conditions",
                 .what = "no checkpoint for this condition",
                 .got = name,
                 .expected = "one trained by this recipe's stages",
                 .remedy = cat("train first, or take ", name, " out of eval.conditions")});
  return make_projected(name, *found->second.projector, found->second.checkpoint);
}

void add_partial(const EvalOptions& options, const Imitated& imitated, const KvShape& target,
                 Conditions& list) {
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
}

}  // namespace

Conditions make_conditions(const EvalOptions& options,
                           const std::map<std::string, NamedProjector>& projectors,
                           const KvShape& target) {
  const std::vector<int64_t> shifts = sorted_shifts(options);
  const Imitated imitated = imitated_of(options, projectors);
  Conditions list;
  for (const auto& name : wanted_names(options)) {
    const auto row = std::ranges::find(kRows, name, &Row::name);
    if (row != std::end(kRows)) {
      list.push_back(row->make(imitated));
    } else if (name == "raw_shifted") {
      // The plain name is the largest offset; the smaller ones carry theirs.
      for (int64_t shift : shifts)
        list.push_back(
            make_raw_shifted(shift == shifts.back() ? name : cat(name, "_", shift), shift));
    } else if (name == "raw_rerotated") {
      list.push_back(make_raw_rerotated(name, shifts.back()));
    } else if (name != "source_alone") {  // no condition of the target: source_alone.h
      list.push_back(projected_by(name, projectors));
    }
  }
  add_partial(options, imitated, target, list);
  return list;
}

}  // namespace kvlingua
