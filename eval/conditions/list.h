// Every condition by name: an explicit list, read from top to bottom. To add one, write a small
// file and add a line.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/conditions/condition.h"
#include "eval/conditions/controls.h"
#include "kvlingua/config/eval_options.h"

namespace kvlingua {

// A projector that a condition of that name uses.
struct NamedProjector {
  const Projector* projector = nullptr;
  std::string checkpoint;  // where it came from, as the report says it
};

// Those of `options` in its order, with what each needs to be checked: same_cache brings full_text,
// raw brings raw_text; all bring baseline and full_text. Throws Error (kUsage): a condition that
// needs a checkpoint and has none.
std::vector<std::unique_ptr<Condition>> make_conditions(
    const EvalOptions& options, const std::map<std::string, NamedProjector>& projectors,
    const KvShape& target);
// Whose cache the controls imitate: the gated condition's, or the target's own when it has no
// projector.
Imitated imitated_of(const EvalOptions& options,
                     const std::map<std::string, NamedProjector>& projectors);

}  // namespace kvlingua
