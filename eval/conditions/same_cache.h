// same_cache: the target's own cache of the context at its own positions. Must answer as full_text
// does, token for token; a run in which it does not has a broken injection, and no verdict.
#pragma once

#include <memory>

#include "eval/conditions/condition.h"

namespace kvlingua {

std::unique_ptr<Condition> make_same_cache();

}  // namespace kvlingua
